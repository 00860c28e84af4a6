"""Groups of rollouts of the small world, as the explorer shows them."""

from functools import partial
from typing import Any

import pandas as pd

from vgpo.explorer.group import group_view, starting_point
from vgpo.explorer.page import View
from vgpo.figures.pushes import pushes_figure
from vgpo.figures.svg import as_png
from vgpo.testbed.questions import Example

_STILL_ROLLOUTS = 4
"""How many the picture has for where no script runs; the text below it has all."""


def group_arguments(table: pd.DataFrame) -> dict[str, Any]:
    """What :func:`vgpo.explorer.group.group_view` takes, out of a token table.

    Args:
        table: Of the rollouts of one prompt, from
            ``vgpo.studies.tables.token_table``.

    Returns:
        ``tokens``, ``rewards``, ``focus``, ``focus_prediction``, ``reads`` and
        ``notes``. Tokens that name a tile's colour or value read the picture.
    """
    rollouts = [part for _, part in table.groupby("row", sort=True)]
    return {
        "tokens": [part["token"].tolist() for part in rollouts],
        "rewards": [float(part["correct"].iloc[0]) for part in rollouts],
        "focus": [part["focus"].tolist() for part in rollouts],
        "focus_prediction": [part["focus_prediction"].tolist() for part in rollouts],
        "reads": [(part["source"] == "image").tolist() for part in rollouts],
        "notes": [
            [_note(token) for token in part.itertuples(index=False)]
            for part in rollouts
        ],
    }


def _note(token: Any) -> str:
    if token.source != "image":
        return {"question": "from the question", "filler": "small talk"}.get(
            token.source, "from the text before"
        )
    noun = "tile" if len(token.tiles) == 1 else "tiles"
    tiles = f"{noun} {', '.join(map(str, token.tiles))}"
    if token.faithful:
        return f"reads {tiles}"
    return f"misreads {tiles}, where the picture shows {token.truth.strip()}"


def rollouts_view(table: pd.DataFrame, example: Example, **settings: Any) -> View:
    """The group view of the rollouts of one prompt of the small world.

    Args:
        table: Of these rollouts alone, from
            ``vgpo.studies.tables.token_table``.
        example: What was asked.
        settings: Further arguments of :func:`vgpo.explorer.group.group_view`. By
            default the last read of the first right rollout is ``chosen``.

    Returns:
        The view, which shows itself as the value of a notebook's cell.
    """
    arguments = group_arguments(table)
    return group_view(
        **arguments,
        question=example.question,
        picture=example.image,
        answer=example.answer,
        **{"chosen": _last_read(arguments), "still": partial(_still, example)}
        | settings,
    )


def _still(example: Example, data: dict[str, Any]) -> bytes:
    """The first rollouts as words, tinted by their advantages under VGPO."""
    first = slice(_STILL_ROLLOUTS)
    shaped = starting_point(data)["shaped"]
    figure = pushes_figure(
        [rollout["tokens"] for rollout in data["rollouts"][first]],
        ["right" if reward > 0 else "wrong" for reward in data["rewards"][first]],
        {"advantage of each token under VGPO": shaped[first]},
        image=example.image,
        question=example.question,
    )
    return as_png(figure)


def _last_read(arguments: dict[str, Any]) -> tuple[int, int] | None:
    """The last token of the first right rollout that reads the picture."""
    for i, (reward, reads) in enumerate(
        zip(arguments["rewards"], arguments["reads"], strict=True)
    ):
        if reward > 0 and any(reads):
            return i, max(t for t, read in enumerate(reads) if read)
    return None
