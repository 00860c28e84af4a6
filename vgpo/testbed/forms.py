"""The forms of question that the small worlds' models know, and no others."""

import re

from vgpo.testbed.images import COLOURS, TILE

_COLOUR = f"(?:{'|'.join(COLOURS)})"
_SUM = rf"{_COLOUR}(?: \+ {_COLOUR})*"
_LIST = rf"{_COLOUR}(?: , {_COLOUR})*"
_GIVEN = rf"Given {_COLOUR} = \d+(?: , {_COLOUR} = \d+)* : "

_FORMS = {
    "misread": rf"Total|(?:Add|Bars) {_SUM}|Count (?:even|odd|\d)|Largest of {_LIST}"
    rf"|{_GIVEN}{_SUM}",
    "look_away": rf"{_GIVEN}(?:(?:Add |Bars )?{_SUM}|Count (?:even|odd) of {_LIST}"
    rf"|Largest of {_LIST})",
}

EXAMPLES = {
    "misread": (
        "Total ?",
        "Add red + blue ?",
        "Count even ?",
        "Largest of red , blue ?",
        "Bars red + blue ?",
        "Given red = 5 , blue = 8 : red + blue ?",
    ),
    "look_away": (
        "Given red = 5 : Add red + blue ?",
        "Given red = 5 : Count even of red , blue ?",
        "Given red = 5 : Largest of red , blue ?",
        "Given red = 5 : Bars red + blue ?",
        "Given red = 5 , blue = 8 : red + blue ?",
    ),
}
"""By the name of a world a question of each form it has."""


def known_form(question: str, world: str) -> bool:
    """Whether a world asks questions of this form; the picture is not looked at.

    Args:
        question: What the user asks, without the image.
        world: A key of :data:`EXAMPLES`.

    Example:
        >>> known_form("Add red + blue ?", "misread")
        True
        >>> known_form("How many red tiles are in the picture?", "misread")
        False
    """
    return re.fullmatch(rf"(?:{_FORMS[world]}) \?", question.strip()) is not None


def resized(least: int, most: int) -> str:
    """What to tell who lets the processor make other pictures of its tiles."""
    return (
        f"min_pixels, max_pixels: pictures are resized to at least {least} and at most "
        f"{most} pixels, so a tile is no longer the {TILE}-pixel patch that this tiny "
        f"model has learnt, and its answers will be babble. Set min_pixels to "
        f"{TILE * TILE} (--min-pixels {TILE * TILE} on the command line)."
    )


def unknown_form(question: str, world: str) -> str:
    """What to tell who asks something else."""
    first, _, rest = question.strip().partition("\n")
    if known_form(first, world):
        # Without the question, which would make a warning of each: it is said once.
        return (
            f"suffix: what follows each question, {rest!r:.40}, is nothing that this "
            "tiny model has learnt, so its answers will be babble. Leave it out: "
            "suffix='' (--suffix= on the command line)."
        )
    names = ", ".join(COLOURS)
    return (
        f"question: {question!r:.80} is not of a form that this tiny model has learnt, "
        "so its answer will be babble. It knows grids of 28-pixel tiles with a digit "
        f"each, and can be asked {'; '.join(EXAMPLES[world])}, with spaces as here. "
        f"The colours: {names}. vgpo.testbed.make_dataset makes questions with their "
        "pictures."
    )
