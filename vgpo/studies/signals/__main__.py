"""Grade every signal on a small world, and record it.

python -m vgpo.studies.signals --world look_away --output results/signals
"""

import argparse
from pathlib import Path

import torch

from vgpo.studies.signals.record import SignalStudy, write
from vgpo.testbed import CHECKPOINTS


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vgpo.studies.signals",
        description="Grade every signal on a small world, and record it.",
    )
    parser.add_argument("--world", choices=list(CHECKPOINTS), required=True)
    for name in ("questions", "samples", "seed", "resamples", "steps"):
        default = getattr(SignalStudy, name)
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--method", default=SignalStudy.method)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    options = vars(parser.parse_args(arguments))
    torch.set_num_threads(options.pop("threads"))
    folder = options.pop("output")
    try:
        study = SignalStudy(**options)
    except ValueError as error:
        parser.error(str(error))
    write(study, folder)


if __name__ == "__main__":
    main()
