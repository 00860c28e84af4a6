"""Drawings of the house as inline SVG, in the ink of the page that shows them.

Both are about as wide as a telephone, so that their words are read there at the size
they are written in. They know of rows, boxes and cables; what these stand for, the
caller says.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import sqrt

CENTRED = {"text_anchor": "middle"}
BOLD = {**CENTRED, "font_weight": "bold"}
WIDTH = 480
BOX, ROW_GAP, GUTTER, MARGIN = 46, 58, 16, 24
NAME = 11.5  # size of a name: ten letters of a wide face fit a box of five columns
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"


@dataclass(frozen=True)
class Box:
    """A box of the tower: its name, and a line under it."""

    name: str
    note: str


@dataclass(frozen=True)
class Step:
    """A box of the way: what happens, where it stands in the code, what goes on.

    Attributes:
        code: Pairs of a short name and its place.
        hands_on: What the next step receives.
        own: Whether to set the box apart from the others.
    """

    title: str
    text: str
    code: Sequence[tuple[str, str]]
    hands_on: str = ""
    own: bool = False


def text(x: float, y: float, content: str, size: float = 12, **attributes) -> str:
    extra = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in attributes.items())
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="currentColor"{extra}>'
        f"{escape(content)}</text>"
    )


def frame(x: float, y: float, width: float, height: float, own: bool = False) -> str:
    stroke = "var(--pst-color-primary, currentColor)" if own else "currentColor"
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
        f'fill="currentColor" fill-opacity="0.05" style="stroke:{stroke}" '
        f'stroke-width="{2.5 if own else 1.2}"/>'
    )


def document(key: str, height: float, title: str, words: str, body: list[str]) -> str:
    """One figure. It holds no empty line, which would end it in Markdown."""
    head = '<path d="M0 0 L6 3 L0 6 z" fill="currentColor"/>'
    marker = (
        f'<defs><marker id="{key}-head" viewBox="0 0 6 6" refX="5.5" refY="3" '
        'markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" '
        f'orient="auto">{head}</marker></defs>'
    )
    return "\n".join(
        [
            f'<figure class="house" id="{key}">',
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
            f'role="img" aria-labelledby="{key}-title {key}-words" '
            'font-family="system-ui, sans-serif">',
            f'<title id="{key}-title">{escape(title)}</title>',
            f'<desc id="{key}-words">{escape(words)}</desc>',
            marker,
            *body,
            "</svg>",
            "</figure>",
        ]
    )


# The tower ---------------------------------------------------------------


def tower(
    rows: Sequence[tuple[str, Sequence[Box]]], cables: Mapping[tuple[str, str], int]
) -> str:
    """Rows of boxes from top to bottom, with a cable for each pair.

    A cable is the thicker the larger its number. It leaves at the foot of a box and
    ends at the head of one in a lower row; rows between are passed in the gutters.

    Args:
        rows: The word beside a row, and its boxes from left to right. Rows with the
            same word stand closer together.
        cables: Numbers by (name above, name below).
    """
    columns = max(len(boxes) for _, boxes in rows)
    width = (WIDTH - MARGIN - (columns + 1) * GUTTER) / columns
    gutters = [MARGIN + GUTTER / 2 + i * (width + GUTTER) for i in range(columns + 1)]
    top, left, level = [12.0], {}, {}
    for (word, _), (below, _) in pairwise(rows):
        top.append(top[-1] + BOX + (ROW_GAP if word != below else 0.6 * ROW_GAP))
    for row, (_, boxes) in enumerate(rows):
        for i, box in enumerate(boxes):
            # On the grid of columns, so that no box stands in a gutter.
            column = int(columns * (i + 0.5) / len(boxes))
            left[box.name] = MARGIN + GUTTER + column * (width + GUTTER)
            level[box.name] = row

    def middle(name: str) -> float:
        return left[name] + width / 2

    # Which gutter each long cable takes: the one that is least of a detour.
    taken: dict[int, list[tuple[str, str]]] = {i: [] for i in range(len(gutters))}
    for pair in sorted(cables, key=lambda p: (level[p[0]] - level[p[1]], p)):
        if level[pair[1]] - level[pair[0]] > 1:
            detour = [
                abs(x - middle(pair[0])) + abs(x - middle(pair[1])) + 7 * len(taken[i])
                for i, x in enumerate(gutters)
            ]
            taken[detour.index(min(detour))].append(pair)
    lane = {
        pair: gutters[i]
        + (n - (len(pairs) - 1) / 2) * min(5, (GUTTER - 6) / len(pairs))
        for i, pairs in taken.items()
        for n, pair in enumerate(sorted(pairs, key=lambda p: middle(p[1])))
    }

    def port(name: str, end: int, pair: tuple[str, str]) -> float:
        """Where on a box a cable ends: in the order in which cables arrive."""
        here = [p for p in cables if p[end] == name]
        here.sort(key=lambda p: (lane.get(p, middle(p[1 - end])), p))
        return left[name] + width * (here.index(pair) + 1) / (len(here) + 1)

    drawn = [
        text(10, y + BOX / 2 + 5, word, 15, font_weight="bold", opacity="0.75")
        for y, (word, _) in zip(top, rows, strict=True)
    ]
    for pair, number in cables.items():
        x, y = port(pair[0], 0, pair), top[level[pair[0]]] + BOX
        path = f"M{x:.1f} {y:g}"
        if pair in lane:
            path += _bend(x, y, lane[pair], top[level[pair[0]] + 1])
            x, y = lane[pair], top[level[pair[1]] - 1] + BOX
            path += f" V{y:g}"
        path += _bend(x, y, port(pair[1], 1, pair), top[level[pair[1]]] - 2)
        drawn.append(
            f'<path class="cable of-{pair[0]} of-{pair[1]}" d="{path}" fill="none" '
            f'stroke="currentColor" stroke-opacity="0.5" '
            f'stroke-width="{0.7 * sqrt(number):.2f}" marker-end="url(#tower-head)"/>'
        )
    for y, (_, boxes) in zip(top, rows, strict=True):
        for box in boxes:
            x = left[box.name]
            drawn += [
                f'<g class="box box-{box.name}">',
                frame(x, y, width, BOX),
                text(x + width / 2, y + 20, box.name, NAME, **BOLD),
                text(x + width / 2, y + 37, box.note, 11.5, **CENTRED),
                "</g>",
            ]
    # Pointing at a box leaves its own cables and takes the others back.
    rules = "".join(
        f"#tower:has(.box-{name}:hover) .cable:not(.of-{name}){{opacity:.1}}"
        for name in left
    )
    drawn.append(f"<style>{rules}</style>")
    told = "; ".join(
        f"{word}: {', '.join(box.name for box in boxes)}" for word, boxes in rows
    )
    pairs = "; ".join(f"{one} to {other} {n}" for (one, other), n in cables.items())
    return document(
        "tower",
        top[-1] + BOX + 12,
        "The floors of the package and the imports between them",
        f"Boxes from the top, by floor: {told}. Cables, by how many modules: {pairs}.",
        drawn,
    )


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    half = (y + to_y) / 2
    return f" C{x:.1f} {half:g} {to_x:.1f} {half:g} {to_x:.1f} {to_y:g}"


# The way -----------------------------------------------------------------


def way(steps: Sequence[Step]) -> str:
    """Steps one under the other, with what each hands to the next."""
    y, drawn = 8.0, []
    for step in steps:
        lines = textwrap.wrap(step.text, 54)
        height = 32 + 16 * len(lines) + 33 * len(step.code) + 4
        drawn.append(frame(2, y, WIDTH - 4, height, step.own))
        drawn.append(text(14, y + 23, step.title, 14.5, font_weight="bold"))
        below = y + 42
        for line in lines:
            drawn.append(text(14, below, line, 12.5))
            below += 16
        for name, place in step.code:
            drawn.append(text(14, below + 2, name, 11.5, font_family=MONO))
            drawn.append(text(14, below + 17, place, 11, opacity="0.7"))
            below += 33
        y += height
        if step.hands_on:
            drawn.append(
                f'<path d="M40 {y + 3:g} V{y + 33:g}" stroke="currentColor" '
                'stroke-width="1.8" marker-end="url(#way-head)"/>'
            )
            drawn.append(text(54, y + 23, step.hands_on, 12.5, font_style="italic"))
            y += 36
    told = (
        f"{n}. {step.title}: {step.text} ({', '.join(name for name, _ in step.code)})."
        + (f" On goes: {step.hands_on}." if step.hands_on else "")
        for n, step in enumerate(steps, start=1)
    )
    return document("way", y + 8, "The way of a batch", " ".join(told), drawn)
