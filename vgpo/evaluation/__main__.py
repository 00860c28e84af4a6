"""``python -m vgpo.evaluation run | compare | browse | robustness | sets``."""

import argparse
import difflib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from vgpo.data.catalogue import SUITES, describe
from vgpo.data.questions import Questions, load_questions
from vgpo.evaluation.asking import evaluate
from vgpo.evaluation.browsing import browse
from vgpo.evaluation.comparing import compare
from vgpo.evaluation.decoding import VLLM
from vgpo.evaluation.reported import beside_the_paper
from vgpo.evaluation.runs import LEFT_OUT, load_run
from vgpo.evaluation.sight import robustness
from vgpo.evaluation.views import VIEWS
from vgpo.models.loading import load_model, load_processor

# Of the training's recipe.
MIN_PIXELS, MAX_PIXELS = 262_144, 4_194_304


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the commands; a wrong setting ends it with a message and 2.

    Stopped by the keyboard, it says how to go on and ends with 130.
    """
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = parser.parse_args(_with_config(parser, given))
    try:
        args.command(args)
    # OSError: no such model or folder, a full disk.
    except (ValueError, ImportError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "stopped; the same command goes on from here\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vgpo.evaluation", allow_abbrev=False, description=__doc__
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, command, what in (
        ("run", _run, "ask a model sets of questions"),
        ("robustness", _robustness, "the same over degraded pictures"),
    ):
        one = commands.add_parser(
            name,
            help=what,
            allow_abbrev=False,
            # In one line: all options would hide the message that stands below them.
            usage="%(prog)s --model MODEL --suite SUITE [SUITE ...] --out OUT [--...]",
        )
        one.set_defaults(command=command)
        _add_settings(one)
        if name == "run":
            one.add_argument("--view", choices=VIEWS, default="none")
            one.add_argument("--backend", choices=("transformers", "vllm"))
            one.add_argument("--size", choices=("3B", "7B", "32B"), default="7B")
        else:
            one.add_argument("--views", nargs="+", choices=VIEWS, default=list(VIEWS))
    one = commands.add_parser("compare", help="two runs, question by question")
    one.set_defaults(command=_compare)
    one.add_argument("first", type=Path)
    one.add_argument("second", type=Path)
    one.add_argument("--grader", choices=("accuracy", "recipe"), default="accuracy")
    one.add_argument("--margin", type=float, help="differences below it do not matter")
    one = commands.add_parser("browse", help="one or two runs as a page")
    one.set_defaults(command=_browse)
    one.add_argument("runs", type=Path, nargs="+", metavar="run")
    one.add_argument("--page", type=Path, required=True, help="file to write")
    one = commands.add_parser("sets", help="the public sets that are known")
    one.set_defaults(command=_sets)
    return parser


def _add_settings(one: argparse.ArgumentParser) -> None:
    one.add_argument("--config", type=Path, help="YAML file with these settings")
    one.add_argument("--model", required=True, help="name on the hub, or folder")
    one.add_argument(
        "--suite",
        nargs="+",
        required=True,
        help=f"{', '.join(SUITES)}, a set of the catalogue, a file or a folder, which "
        "NAME=PATH gives a name",
    )
    one.add_argument("--out", type=Path, required=True, help="folder of the run")
    one.add_argument("--root", type=Path, help="folder with copies of repositories")
    one.add_argument("--split", help="of a data set that has several")
    one.add_argument("--name", help="of the model, in tables")
    one.add_argument("--samples", type=int, default=0, help="beside the greedy answer")
    one.add_argument("--temperature", type=float, default=1.0)
    one.add_argument("--top-p", type=float, default=1.0)
    one.add_argument("--max-new-tokens", type=int, default=2048)
    one.add_argument("--max-prompt-tokens", type=int, default=4096)
    one.add_argument("--min-pixels", type=int, default=MIN_PIXELS)
    one.add_argument("--max-pixels", type=int, default=MAX_PIXELS)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--limit", type=int, help="first questions of each set alone")
    one.add_argument("--suffix", help="after each question; by default training's")
    one.add_argument("--batch-size", type=int, default=8)


def _with_config(parser: argparse.ArgumentParser, given: list[str]) -> list[str]:
    """A recipe's settings, before those of the command line, which win."""
    early = argparse.ArgumentParser(
        parser.prog, add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS
    )
    early.add_argument("--config", type=Path)
    path = early.parse_known_args(given)[0].config
    if path is None or given[0] not in ("run", "robustness"):
        return given
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        parser.exit(2, f"{parser.prog}: config: {path} cannot be read ({error})\n")
    if not isinstance(recipe, dict):
        parser.exit(2, f"{parser.prog}: config: {path} must hold settings and values\n")
    extra: list[str] = []
    known = _settings_of(parser, given[0])
    for name, value in recipe.items():
        written = str(name).replace("-", "_")
        if written not in known:
            near = difflib.get_close_matches(written, known, 1)
            hint = (
                f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            )
            parser.exit(
                2,
                f"{parser.prog}: config: {path}: {name!r} is no setting of {given[0]}; "
                f"{hint}\n",
            )
        if value is None:
            continue  # the default
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, dict | list) for one in values):
            parser.exit(
                2,
                f"{parser.prog}: config: {path}: {name} must be a value or a list of "
                f"them, got {value!r}\n",
            )
        # As one argument each: a suffix may begin with a dash.
        flag = f"--{str(name).replace('_', '-')}"
        extra += (
            [f"{flag}={values[0]}"]
            if len(values) == 1
            else [flag, *(str(one) for one in values)]
        )
    return [*given[:1], *extra, *given[1:]]


def _settings_of(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """Names of all settings of a command, as a recipe writes them."""
    needed = ["--model", "x", "--suite", "x", "--out", "x"]
    names = vars(parser.parse_args([command, *needed]))
    return sorted(set(names) - {"command", "config"})


def _asked(args: argparse.Namespace) -> dict:
    names = (
        *("out", "root", "split", "samples", "temperature", "top_p", "seed", "limit"),
        *("max_new_tokens", "max_prompt_tokens", "suffix", "batch_size"),
    )
    settings = {name: getattr(args, name) for name in names}
    return settings | {"name": args.name or Path(args.model).name}


def _suite(args: argparse.Namespace) -> list[str | Questions]:
    """What is to be asked; ``NAME=PATH`` names a file or a folder."""
    how = {name: getattr(args, name) for name in ("split", "suffix", "root", "limit")}
    found: list[str | Questions] = []
    for one in args.suite:
        name, mark, path = one.partition("=")
        if mark and name and not Path(one).exists():
            found.append(load_questions(path, name=name, **how))
        else:
            found.append(one)
    return found


def _loaded(args: argparse.Namespace):
    return load_model(args.model, **_limits(args))


def _limits(args: argparse.Namespace) -> dict[str, int]:
    return {"min_pixels": args.min_pixels, "max_pixels": args.max_pixels}


def _run(args: argparse.Namespace) -> None:
    if args.backend == "vllm":
        # The processor alone: vLLM loads the weights itself. It makes pixels itself,
        # too, of the checkpoint's size if it is not told.
        model, processor = None, load_processor(args.model, **_limits(args))
        backend = VLLM(args.model, processor, mm_processor_kwargs=_limits(args))
    else:
        (model, processor), backend = _loaded(args), None
    run = evaluate(
        model, processor, _suite(args), view=args.view, backend=backend, **_asked(args)
    )
    _say(run.summary())
    if {record["set"] for record in run.records} & set(SUITES["paper"]):
        _say(beside_the_paper(run, args.size))
    if run.left_out:
        first = run.left_out[0]
        print(
            f"{len(run.left_out)} questions are left out, as row {first['row']} of "
            f"{first['set']}: {first['reason']}; all are in {run.folder / LEFT_OUT}"
        )
    print(f"{len(run.disagreements())} answers on which the graders differ")
    print(f"records: {run.folder}")


def _robustness(args: argparse.Namespace) -> None:
    found = robustness(*_loaded(args), _suite(args), views=args.views, **_asked(args))
    _say(found.table)


def _compare(args: argparse.Namespace) -> None:
    found = compare(
        load_run(args.first),
        load_run(args.second),
        grader=args.grader,
        margin=args.margin,
    )
    for name, values in found.settings.items():
        print(f"the runs differ in {name}: {_differing(*values)}")
    for which, count in (("first", found.only_first), ("second", found.only_second)):
        if count:
            print(
                f"{count} questions of the {which} run are not in the other, and not "
                "compared; a run that was stopped goes on with its own command"
            )
    _say(found.table)
    print(found)


def _differing(first: object, second: object) -> str:
    """Two values of a setting; of mappings only what is not the same in both."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return f"{first!r} and {second!r}"
    names = [n for n in first | second if first.get(n) != second.get(n)]
    return ", ".join(f"{n} {first.get(n)!r} and {second.get(n)!r}" for n in names)


def _browse(args: argparse.Namespace) -> None:
    if len(args.runs) > 2:
        raise ValueError(f"browse shows one run or two, got {len(args.runs)}")
    if args.page.is_dir():
        raise ValueError(f"page: {args.page} is a folder; name a file to write")
    view = browse(*map(load_run, args.runs))
    try:
        path = view.save(args.page)
    except OSError as error:
        raise ValueError(
            f"page: the file {args.page} cannot be written ({error.strerror}); name "
            "another"
        ) from error
    print(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)")


def _sets(args: argparse.Namespace) -> None:
    _say(describe().drop(columns="note"))


def _say(table: pd.DataFrame) -> None:
    with pd.option_context("display.max_columns", None, "display.width", 200):
        print(table.round(3).to_string())


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sys.exit(main())
