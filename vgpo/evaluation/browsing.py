"""The records of one or two runs as a page to look through, in one file."""

from typing import Any

from PIL import Image

from vgpo.evaluation.runs import GREEDY, PICTURES, EvaluatedRun
from vgpo.explorer.page import View, picture_address

LONGEST_TEXT = 20_000
"""Characters of an answer that are shown."""


def browse(
    first: EvaluatedRun, second: EvaluatedRun | None = None, *, longest: int = 320
) -> View:
    """The questions of one or two runs, with pictures, answers and verdicts.

    The page filters by set, by verdict (right, wrong, without an answer, cut off,
    graders that differ) and, of two runs, by what changed; it searches questions,
    references and answers. It is one file that loads nothing, and whatever a model
    wrote is shown as text.

    Args:
        first: A run.
        second: Another; questions that both have are shown side by side, the others
            with one answer.
        longest: Longer side of the pictures in pixels.

    Returns:
        A view: shown by a notebook, or ``.save("answers.html")``.
    """
    runs = [first] if second is None else [first, second]
    by_key: dict[tuple[str, str], dict[str, Any]] = {}
    pictures: dict[str, str] = {}
    for place, run in enumerate(runs):
        for record in run.records:
            key = (record["set"], record["question_id"])
            shown = by_key.setdefault(key, _question(record, len(runs)))
            shown["answers"][place] = [_answer(one) for one in record["answers"]]
            for picture in record["pictures"]:
                _add_picture(pictures, picture["id"], run, longest)
    data = {
        "runs": [run.name for run in runs],
        "views": [run.settings.get("view", "none") for run in runs],
        "questions": list(by_key.values()),
        "pictures": pictures,
    }
    return View(
        title=" and ".join(run.name for run in runs) + ", question by question",
        body=_still(runs),
        start="showAnswers",
        data=data,
        scripts=("answers.js",),
        styles=("answers.css",),
        text=_still(runs, plain=True),
    )


def _question(record: dict[str, Any], runs: int) -> dict[str, Any]:
    return {
        "set": record["set"],
        "row": record["row"],
        "question": record["question"],
        "reference": record["reference"],
        "pictures": [picture["id"] for picture in record["pictures"]],
        "answers": [[] for _ in range(runs)],
    }


def _answer(answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "greedy"
        if answer["sample"] == GREEDY
        else f"sample {answer['sample'] + 1}",
        "text": answer["text"][:LONGEST_TEXT],
        "extracted": answer["extracted"],
        "right": answer["accuracy"],
        "recipe": answer["recipe"],
        "finish": answer["finish"],
        "tokens": answer["tokens"],
    }


def _add_picture(
    pictures: dict[str, str], name: str, run: EvaluatedRun, longest: int
) -> None:
    if name in pictures or run.folder is None:
        return
    path = run.folder / PICTURES / f"{name}.png"
    if path.is_file():
        with Image.open(path) as image:
            pictures[name] = picture_address(image, longest)


def _still(runs: list[EvaluatedRun], plain: bool = False) -> str:
    """What stands where no script runs: the numbers."""
    if plain:
        return "\n".join(f"{run.name}\n{run.summary().to_string()}" for run in runs)
    # to_html escapes names and values.
    return "\n".join(
        run.summary().to_html(float_format="{:.3f}".format) for run in runs
    )
