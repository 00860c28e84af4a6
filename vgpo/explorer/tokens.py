"""The token view: an answer as text, tinted by a measure, and where each token looks.

::

    scores = {"focus_token": focus}
    answer = Answer("mine", tokens, scores, pictures=[picture], maps=[attention])
    token_view(answer).save("answer.html")

Point at a token and its attention lies on the picture, on the model's own grid;
click to hold it. Two answers, or two models, stand beside each other.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from vgpo.explorer.page import View, pack, picture_address, picture_element

MEASURES = {
    "focus_token": ("focus, state at t", "Eq. 4 at the token's own position"),
    "focus_prediction": ("focus, state at t − 1", "Eq. 4 where the token is chosen"),
    "image": ("attention on the image", "share of attention, special tokens left out"),
    "query": ("attention on the query", "share of attention, special tokens left out"),
    "generated": ("attention on text so far", "share of attention on what was written"),
    "special": ("attention on special tokens", "share, before they were left out"),
    "uniform": ("image share, spread evenly", "of an attention that knows nothing"),
    "untrained": ("image share, untrained network", "of a network that knows nothing"),
    "gate": ("gate", "Eq. 6, 1 where the weight is raised"),
    "weight": ("weight", "Eq. 5, focus raised with the length where the gate is open"),
    "psi": ("ψ, within the answer", "Eq. 8, what the token gets beside the others"),
    "phi": ("φ, across the group", "Eq. 11, what the answer gets beside the others"),
    "advantage": ("advantage", "what the token is pushed by"),
    "log_prob": ("log-probability", "of the token, in nats"),
    "entropy": ("entropy", "of the choice of the token, in nats"),
    "attention_last": ("image attention, last layer", "share of attention"),
    "attention_most": ("image attention, most looking layer", "share of attention"),
    "attention_mean": ("image attention, mean of layers", "share of attention"),
    "k3": (
        "k3 to a masked picture",
        "dependence on the picture, as PAPO and VPPO take",
    ),
    "contrast": ("contrast to a masked picture", "log-probability that the mask takes"),
    "absolute_contrast": (
        "contrast to no picture",
        "how far the log-probability is from that without a picture, as ToR takes it",
    ),
    "jsd": ("divergence to a noisy picture", "of the choice of the token, as in VEPO"),
    "vepo": ("VEPO's score", "divergence, change of entropy, and entropy"),
    "layer_cosine": ("cosine, mean of layers", "as PEPO takes it"),
}
"""Measures with a name of their own in the view, and what they say of a token."""

_SHARES = ("image", "query", "generated")


@dataclass(frozen=True)
class Answer:
    """One answer, and what is known of each of its T tokens.

    Attributes:
        name: How it is called beside others.
        tokens: The tokens as text; joined they are the answer.
        measures: By name T numbers each; NaN where a token has none. Names of
            :data:`MEASURES` are explained in the view, others stand as they are.
        gate: (T,) bool: which tokens are underlined.
        shares: (N, T, 3): attention on image, query and text so far, per layer.
        layers: The N layers, counted from 0.
        pictures: What was asked about.
        maps: Per grid of image tokens (N, T, height, width) for N layers, or
            (1, T, height, width) for their mean: share of attention of each.
        aligned: Whether the k-th grid lies on the k-th picture, from edge to edge.
        note: A sentence that stands above the answer.

    Raises:
        ValueError: Something has not one entry per token, layer or picture, or a share
            is not finite.
    """

    name: str
    tokens: Sequence[str]
    measures: Mapping[str, ArrayLike] = field(default_factory=dict)
    gate: ArrayLike | None = None
    shares: ArrayLike | None = None
    layers: Sequence[int] = ()
    pictures: Sequence[Image.Image] = ()
    maps: Sequence[ArrayLike] = ()
    aligned: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        count = len(self.tokens)
        if not count:
            raise ValueError("tokens: the answer has none.")
        rows = dict(self.measures)
        if self.gate is not None:
            rows["gate"] = self.gate
        for name, values in rows.items():
            if np.shape(values) != (count,):
                raise ValueError(
                    f"{name}: need {count} values, one per token, got the shape "
                    f"{np.shape(values)}."
                )
        if not self.measures and self.shares is None:
            raise ValueError("measures: need one at least, or shares.")
        if self.shares is not None:
            shape = (len(self.layers), count, 3)
            if np.shape(self.shares) != shape:
                raise ValueError(
                    f"shares: need the shape {shape} (layers, tokens, 3), got "
                    f"{np.shape(self.shares)}."
                )
        for k, values in enumerate(self.maps):
            shape = np.shape(values)
            if (
                len(shape) != 4
                or shape[1] != count
                or shape[0] not in (1, len(self.layers))
            ):
                raise ValueError(
                    f"maps: the one of grid {k} needs the shape (1 or "
                    f"{len(self.layers)} layers, {count} tokens, height, width), got "
                    f"{shape}."
                )
        if len({np.shape(values)[0] for values in self.maps}) > 1:
            raise ValueError("maps: all grids need the same number of layers.")
        if self.maps and self.aligned and len(self.maps) != len(self.pictures):
            raise ValueError(
                f"maps: {len(self.maps)} grids cannot lie on {len(self.pictures)} "
                "pictures; pass aligned=False."
            )
        for name, parts in (("shares", [self.shares]), ("maps", self.maps)):
            for values in parts:
                if values is not None and not np.isfinite(np.asarray(values)).all():
                    raise ValueError(f"{name}: they hold a number that is not finite.")


def token_view(
    answers: Answer | Sequence[Answer],
    *,
    title: str = "Where each token looks",
    measure: str | None = None,
    facts: Sequence[tuple[str, str]] = (),
    beside: bool = True,
    picture: bytes | None = None,
    text: str = "",
    map_bytes: int = 6_000_000,
) -> View:
    """One or more answers to point at.

    Args:
        answers: The answers; with two or more, two can stand beside each other, and
            where these have the same tokens they move together.
        title: A few words.
        measure: Which tints the tokens first; by default the first there is.
        facts: Names and values that stand above everything.
        beside: Whether the second answer stands beside the first from the start.
        picture: A PNG for where nothing can be touched (GitHub, a PDF).
        text: For where there is only text; by default the answers.
        map_bytes: What all maps together may take before they are deflated and written
            in base64, a byte per token, image token and layer. Where they would take
            more, fewer layers are kept, then their mean alone, then 2 x 2 cells are
            joined, and the view says so.

    Returns:
        The view, to be shown or saved.

    Raises:
        ValueError: No answer; a measure that no answer has.

    Example:
        >>> answer = Answer("mine", ["red", " =", " 5"], {"entropy": [0.1, 0.0, 1.2]})
        >>> token_view(answer, measure="entropy")
        View('Where each token looks')
    """
    answers = [answers] if isinstance(answers, Answer) else list(answers)
    if not answers:
        raise ValueError("answers: need one at least.")
    known: list[str] = []
    for answer in answers:
        known += [*answer.measures, *(_SHARES if answer.shares is not None else ())]
    known = sorted(dict.fromkeys(known), key=_place)
    if measure is not None and measure not in known:
        raise ValueError(f"measure: {measure!r} is not among {known}.")
    written = [_written(answer, map_bytes // len(answers)) for answer in answers]
    data = {
        "answers": written,
        "measure": measure or known[0],
        "measures": [
            {"name": name, "label": label, "about": about}
            for name in known
            for label, about in [MEASURES.get(name, (name, ""))]
        ],
        "beside": beside,
        "facts": [[str(name), str(value)] for name, value in facts],
    }
    return View(
        title=title,
        body=_still(answers, measure or known[0], facts, picture),
        start="tokenView",
        data=data,
        scripts=("tokens.js",),
        styles=("tokens.css",),
        text=text or "\n\n".join("".join(answer.tokens) for answer in answers),
        picture=picture,
    )


def _place(name: str) -> int:
    """Known measures in their order, then others as they came."""
    names = list(MEASURES)
    return names.index(name) if name in names else len(names)


def _written(answer: Answer, map_bytes: int) -> dict[str, Any]:
    table = np.array(
        [np.asarray(values) for values in answer.measures.values()], dtype=np.float32
    ).reshape(-1, len(answer.tokens))
    gate, shares = answer.gate, answer.shares
    maps, notes = _maps(answer, map_bytes)
    return {
        "name": answer.name,
        "note": " ".join(filter(None, [answer.note, *notes])),
        "tokens": list(answer.tokens),
        "measures": list(answer.measures),
        "table": pack(table),
        "gate": None if gate is None else pack(np.asarray(gate).astype(np.uint8)),
        "shares": None
        if shares is None
        else pack(np.rint(np.asarray(shares) * 65_535).astype(np.uint16)),
        "layers": [int(layer) for layer in answer.layers],
        "pictures": [picture_address(image) for image in answer.pictures],
        "aligned": answer.aligned and bool(answer.maps),
        "fine": [list(np.shape(values)[2:]) for values in answer.maps],
        "maps": maps,
    }


def _maps(answer: Answer, map_bytes: int) -> tuple[dict[str, Any] | None, list[str]]:
    """Maps as parts of 255 of each token's largest value, and what was left out."""
    if not answer.maps:
        return None, []
    grids = [np.asarray(values, dtype=np.float32) for values in answer.maps]
    notes, coarse = [], 1

    def size() -> int:
        return sum(grid.size for grid in grids)

    if size() > map_bytes and len(grids[0]) > 1:
        # A slider over some of the layers would not say which: the mean it is.
        grids = [grid.mean(axis=0, keepdims=True) for grid in grids]
        notes.append("The maps are means over the layers, which would be too large.")
    while size() > map_bytes and any(max(grid.shape[2:]) > 1 for grid in grids):
        grids, coarse = [_halved(grid) for grid in grids], coarse * 2
    if coarse > 1:
        notes.append(f"Each cell of the maps is {coarse} x {coarse} image tokens.")
    flat = np.concatenate([grid.reshape(*grid.shape[:2], -1) for grid in grids], axis=2)
    peaks = flat.max(axis=2)
    scale = np.where(peaks > 0, 255 / np.where(peaks > 0, peaks, 1), 0)
    return {
        "values": pack(np.rint(flat * scale[..., None]).astype(np.uint8)),
        "peaks": pack(peaks.astype(np.float32)),
        "grids": [list(grid.shape[2:]) for grid in grids],
        "coarse": coarse,
    }, notes


def _halved(grid: np.ndarray) -> np.ndarray:
    """A grid whose cells are sums over 2 x 2; at an odd edge, of what there is."""
    for axis in (2, 3):
        grid = np.add.reduceat(grid, np.arange(0, grid.shape[axis], 2), axis=axis)
    return grid


_STILL_TOKENS = 400
"""Of how many tokens the table for where no script runs has rows."""


def _still(
    answers: Sequence[Answer],
    measure: str,
    facts: Sequence[tuple[str, str]],
    picture: bytes | None,
) -> str:
    """What stands where no script runs: the text with its tint, a picture, a table."""
    parts = [
        f"<p>{html.escape(str(name))}: {html.escape(str(value))}</p>"
        for name, value in facts
    ]
    alt = "the scores of the tokens, which the table below has as numbers"
    parts.append(picture_element(picture, alt))
    for answer in answers[:2]:
        parts += [
            f"<p><b>{html.escape(answer.name)}</b></p>",
            f"<p>{_tinted(answer, measure)}</p>",
            "<details><summary>The same as a table</summary>",
            _table(answer),
            "</details>",
        ]
    return "\n".join(parts)


def _columns(answer: Answer) -> dict[str, np.ndarray]:
    columns = {
        name: np.asarray(values, dtype=float)
        for name, values in answer.measures.items()
    }
    if answer.shares is not None:
        mean = np.asarray(answer.shares, dtype=float).mean(axis=0)
        columns |= dict(zip(_SHARES, mean.T, strict=True))
    return columns


def _tinted(answer: Answer, measure: str) -> str:
    values = _columns(answer).get(measure, np.full(len(answer.tokens), np.nan))
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    spans = []
    for token, value in zip(answer.tokens, values, strict=True):
        part = (value - low) / (high - low) if np.isfinite(value) and high > low else 0
        # Half-clear, so that it does on light and on dark pages.
        style = f"background:rgba(224,123,0,{0.6 * part:.2f})"
        shown = html.escape(token).replace("\n", "<br>")
        spans.append(f'<span style="{style}">{shown}</span>')
    return "".join(spans)


def _table(answer: Answer) -> str:
    columns = _columns(answer)
    head = "".join(
        f"<th>{html.escape(MEASURES.get(name, (name,))[0])}</th>" for name in columns
    )
    rows = [
        f"<tr><td>{t + 1}</td><td>{html.escape(token)}</td>"
        + "".join(f"<td>{values[t]:.3g}</td>" for values in columns.values())
        + "</tr>"
        for t, token in enumerate(answer.tokens[:_STILL_TOKENS])
    ]
    more = len(answer.tokens) - _STILL_TOKENS
    rest = f"<p>and {more} tokens more</p>" if more > 0 else ""
    return (
        f"<table><tr><th>t</th><th>token</th>{head}</tr>\n"
        + "\n".join(rows)
        + f"</table>{rest}"
    )
