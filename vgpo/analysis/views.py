"""Results of an analysis as answers for the token view."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from vgpo.analysis.pictured import AnsweredImages
from vgpo.explorer.tokens import Answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_MEASURES = ("position", "token", "token_id", "t", "row", "layer", "length")
"""Columns of a table of tokens that say which token it is, not how it scores."""


def shown_answer(
    name: str,
    tokens: Sequence[str],
    measures: Mapping[str, Any],
    *,
    gate: torch.Tensor | None = None,
    shares: np.ndarray | None = None,
    layers: Sequence[int] = (),
    seen: AnsweredImages | None = None,
) -> Answer:
    """One answer for the token view.

    Args:
        name: How it is called beside others.
        tokens: T texts.
        measures: By name T numbers.
        gate: (T,) bool.
        shares: (N, T, 3) of attention per layer.
        layers: The N layers.
        seen: Its pictures and maps; maps per layer where there are.
    """
    maps: list[np.ndarray] = []
    note = ""
    if seen is not None:
        per_layer = seen.layer_maps or [grid[None] for grid in seen.maps]
        maps = [grid.float().numpy() for grid in per_layer]
        if not seen.maps:
            note = "Where image tokens lie on the picture is not known for this model."
        elif not seen.aligned:
            note = "The model cuts or crops pictures, so its grids stand beside them."
    return Answer(
        name=name,
        tokens=tokens,
        measures=measures,
        gate=None if gate is None else gate.numpy(),
        shares=shares,
        layers=layers,
        pictures=[] if seen is None else seen.images,
        maps=maps,
        aligned=seen is not None and seen.aligned,
        note=note,
    )


def measured(columns: pd.DataFrame | Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """Numbers of tokens, by name, out of a table such as that of ``vgpo.signals``.

    Args:
        columns: A table with a row per token, or sequences, arrays or tensors by name.
            Columns that name the token are left out.

    Raises:
        ValueError: A column that holds no numbers.
    """
    found = {}
    for name, values in dict(columns if columns is not None else {}).items():
        if name in _NO_MEASURES:
            continue
        if isinstance(values, torch.Tensor):
            values = values.detach().float().cpu()
        try:
            found[str(name)] = np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"columns: {name!r} holds no numbers.") from error
    return found


def as_png(figure: "Figure") -> bytes:
    """A figure for where nothing can be touched."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
