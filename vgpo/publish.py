r"""A trained model made ready for others: card, merged weights, upload.

::

    python -m vgpo.publish runs/my_run
    python -m vgpo.publish runs/my_run --evaluation runs/my_evaluation \
        --licence apache-2.0
    python -m vgpo.publish runs/my_run --merge runs/my_run_merged
    python -m vgpo.publish runs/my_run --push_to_hub me/my-model

Training leaves a card beside the model already; here it gets a name, a licence and the
results of an evaluation. Nothing leaves this machine without ``--push_to_hub``, and
then only weights, configuration, processor, card and log, into a private repository.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi

from vgpo.evaluation.runs import load_run
from vgpo.hub import answering
from vgpo.lazy import training_libraries

with training_libraries("vgpo.publish", as_program=__name__ == "__main__"):
    from vgpo.training.checkpoints import holds_model
    from vgpo.training.merging import save_merged
    from vgpo.training.metrics import FILE_NAME as METRICS
    from vgpo.training.model_card import CARD, write_card
    from vgpo.training.run_record import FILE_NAME as RECORD
    from vgpo.training.run_record import public_name

__all__ = ["main", "published_files", "push"]

_PUBLISHED = (
    *(CARD, RECORD, METRICS, "*.safetensors", "*.safetensors.index.json"),
    *("*config.json", "*.jinja", "tokenizer*.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model"),
)


def published_files(folder: str | Path) -> list[str]:
    """Names of the files of a run that are uploaded: no pickles, no checkpoints.

    Example:
        >>> published_files("runs/nothing-here")
        []
    """
    folder = Path(folder)
    found = {path.name for glob in _PUBLISHED for path in folder.glob(glob)}
    return sorted(name for name in found if (folder / name).is_file())


def push(folder: str | Path, repository: str, api: HfApi | None = None) -> str:
    """Uploads a run's model to a private repository on the hub.

    Args:
        folder: Of the run.
        repository: Its id, ``owner/name``; made if it is not there.
        api: The hub; by default as you are logged in.

    Returns:
        The address of the commit.

    Raises:
        ValueError: The folder holds no model or no card, or its adapters name their
            base by a path of this machine.
        OSError: You are not logged in, may not write there, or the hub does not answer.
    """
    folder = Path(folder)
    files = published_files(folder)
    if not holds_model(folder) or CARD not in files:
        raise ValueError(f"{folder} holds no model with a card; has its run ended?")
    adapters = folder / "adapter_config.json"
    if adapters.is_file():
        base = json.loads(adapters.read_text())["base_model_name_or_path"]
        if public_name(str(base)) != base:
            raise ValueError(
                f"{adapters} names the base model by a path of this machine; write its "
                "name on the hub into base_model_name_or_path"
            )
    api = api or HfApi()
    with answering():
        api.create_repo(repository, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=files
        )
    return str(commit)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vgpo.publish", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", type=Path, help="the output_dir of a training")
    parser.add_argument("--name", help="of the model; by default the folder's")
    parser.add_argument("--licence", help="an identifier such as apache-2.0")
    parser.add_argument(
        "--evaluation", type=Path, help="folder of a run of vgpo.evaluation"
    )
    parser.add_argument(
        "--merge", type=Path, metavar="FOLDER", help="save merged weights there, too"
    )
    parser.add_argument(
        "--base", help="base model to merge into; by default what the adapters name"
    )
    parser.add_argument(
        "--push_to_hub",
        metavar="OWNER/NAME",
        help="upload (the merged model, with --merge) to a private repository",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the card, and merges and uploads where that is asked for."""
    options = _parser().parse_args(arguments)
    named = {} if options.name is None else {"name": options.name}
    try:
        found = None
        if options.evaluation is not None:
            found = load_run(options.evaluation).summary()
        words = {"licence": options.licence, "evaluation": found, **named}
        card = write_card(options.run, **words)
        print(f"wrote {card}")
        folder = options.run
        if options.merge is not None:
            folder = save_merged(options.run, options.merge, options.base)
            for name in (RECORD, METRICS):
                if (options.run / name).is_file():
                    shutil.copyfile(options.run / name, folder / name)
            write_card(folder, merged=True, **words)
            print(f"wrote the merged model to {folder}")
        if options.push_to_hub is not None:
            print(f"uploaded to {push(folder, options.push_to_hub)}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"vgpo.publish: {error}") from error


if __name__ == "__main__":
    main()
