"""What a forgetting analysis gives a reader: figures, views, and a folder to keep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from vgpo.analysis.forgetting_numbers import KINDS, NULLS, ForgettingNumbers
from vgpo.analysis.saving import (
    pictured_from,
    pictured_tensors,
    read_tensors,
    write_tensors,
)
from vgpo.analysis.views import as_png, shown_answer
from vgpo.explorer.page import View
from vgpo.explorer.tokens import Answer, token_view
from vgpo.files import write_atomically
from vgpo.stats.forgetting.comparing import mean_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KIND = "vgpo.ForgettingAnalysis"


@dataclass(frozen=True, repr=False)
class ForgettingAnalysis(ForgettingNumbers):
    """What :func:`~vgpo.analysis.forgetting.analyze` found.

    A notebook shows the summary and the kept answers to point at: see :meth:`view`.

    Attributes:
        tokens: One row per answer, layer and token: ``row`` (which conversation),
            ``layer`` (from 0), ``t`` (1..T), ``length`` (T), ``token`` (text),
            ``image``, ``query``, ``generated`` (shares of attention, sum 1),
            ``special`` (share on special tokens before they were left out),
            ``uniform`` (the image's share if attention were spread evenly) and, if
            asked for, ``untrained`` (that of an untrained network).
        responses: One row per answer and layer: ``row``, ``layer``, ``length``,
            ``image`` (mean over tokens), ``ratio`` (late/early visual accumulation
            ratio), ``completion``; ``answer`` and ``correct`` where answers are known.
        kept: Pictures and attention maps of the first answers, by ``row``.
        split: Where late begins, a part of the response.
        alignment: ``"prediction"`` where a token's row is the attention with which it
            was chosen (at t - 1, as in ``TokenScores``), ``"token"`` where it is the
            attention after reading it.
    """

    def __repr__(self) -> str:
        layers = ", ".join(map(str, sorted(self.responses["layer"].unique())))
        return (
            f"ForgettingAnalysis({len(self)} answers, layers {layers}, "
            f"{self.responses['image'].mean():.0%} on the image, maps of "
            f"{len(self.kept)})"
        )

    def example_figure(self, row: int = 0, most: int = 96) -> "Figure":
        """Attention of one answer, token by token, over its words.

        Args:
            row: Which conversation.
            most: Tokens drawn, from the first.

        Raises:
            ValueError: No such row.
        """
        if row not in self.per_answer.index:
            raise ValueError(
                f"row: {row} was not analysed; there are 0 to "
                f"{self.tokens['row'].max()}."
            )
        return _figures().attention_split_figure(self.per_token.loc[row].iloc[:most])

    def heatmap_figure(
        self,
        row: int = 0,
        steps: Sequence[int] | None = None,
        targets: Sequence[Sequence[int]] | None = None,
    ) -> "Figure":
        """Where on the image chosen tokens of one answer look.

        Args:
            row: One of the answers whose maps were kept.
            steps: Tokens, counted from 1; by default the six that look most.
            targets: Per step the image tokens of the first picture that it should
                look at, where that is known; outlined.

        Raises:
            ValueError: The maps of ``row`` were not kept, or a step is not there.
        """
        if row not in self.kept:
            raise ValueError(
                f"row: the maps of answer {row} were not kept, only of "
                f"{sorted(self.kept)}; raise keep_maps."
            )
        table = self.per_token.loc[row]
        image, words = table["image"], table["token"]
        if steps is None:
            steps = sorted(image.nlargest(6).index)
        if unknown := set(steps) - set(image.index):
            raise ValueError(
                f"steps: {sorted(unknown)} are not tokens of this answer, which has "
                f"{len(image)}."
            )
        kept = self.kept[row]
        kept.require_aligned("row", f"kept[{row}].maps")
        return _figures().attention_maps_figure(
            kept.images,
            [[grid[t - 1].numpy() for grid in kept.maps] for t in steps],
            [f"{t}: {words[t].strip() or '␣'}  ({image[t]:.2f})" for t in steps],
            targets,
        )

    def figures(self) -> "dict[str, Figure]":
        """The figures by name: ``example``, ``decay``; ``length``, where there are
        several answers; ``heatmaps``, where maps lie on pictures; ``ratio``, where
        answers are known."""
        drawn = {"example": self.example_figure(self.responses["row"].iloc[0])}
        aligned = [row for row, kept in self.kept.items() if kept.aligned]
        if aligned:
            drawn["heatmaps"] = self.heatmap_figure(aligned[0])
        drawn["decay"] = _figures().decay_figure(self.curves())
        if len(self) > 1:
            drawn["length"] = _figures().ratio_length_figure(
                self.per_answer, null=f"ratio_{self.nulls[-1]}"
            )
        if "correct" in self.responses:
            drawn["ratio"] = _figures().ratio_figure(
                self.per_answer,
                mean_ratios(self.per_answer),
                nulls={
                    NULLS[name]: mean_ratios(
                        self.per_answer.assign(ratio=self.per_answer[f"ratio_{name}"])
                    )
                    for name in self.nulls
                },
            )
        return drawn

    def plot(self) -> "Figure":
        """How attention moves as the answers grow (``figures()["decay"]``)."""
        return _figures().decay_figure(self.curves())

    def heatmap(self, t: int, row: int = 0) -> "Figure":
        """Where one token of one answer looked.

        Args:
            t: Its position, from 1.
            row: Which conversation.

        Raises:
            ValueError: As :meth:`heatmap_figure`.
        """
        return self.heatmap_figure(row, [t])

    def answer(self, row: int, name: str | None = None) -> Answer:
        """One answer for :func:`vgpo.explorer.tokens.token_view`.

        Args:
            row: Which conversation.
            name: How it is called beside others; by default by its row, and whether
                it is right.

        Raises:
            ValueError: No such row.
        """
        table = self.tokens[self.tokens["row"] == row]
        if table.empty:
            raise ValueError(
                f"row: {row} was not analysed; there are 0 to "
                f"{self.tokens['row'].max()}."
            )
        if name is None:
            found = self.per_answer.loc[row].get("correct")
            known = {True: ", right", False: ", wrong"}
            name = f"answer {row}{known.get(found, '')}"
        layers = sorted(table["layer"].unique().tolist())
        parts = [table[table["layer"] == layer].sort_values("t") for layer in layers]
        return shown_answer(
            name,
            parts[0]["token"].tolist(),
            {
                name: sum(part[name].to_numpy() for part in parts) / len(parts)
                for name in ("special", *self.nulls)
            },
            shares=np.stack([part[list(KINDS)].to_numpy() for part in parts]),
            layers=layers,
            seen=self.kept.get(row),
        )

    def view(
        self, rows: Sequence[int] | None = None, title: str = "Where each token looks"
    ) -> View:
        """Answers to point at, under the main numbers of all.

        Args:
            rows: Which; by default those whose maps were kept, else the first.
            title: A few words.

        Raises:
            ValueError: No such row.
        """
        rows = sorted(self.kept) or [0] if rows is None else list(rows)
        facts = [("answers", str(len(self)))]
        main = ("on the image", "right less wrong")
        for name, line in self.summary().iterrows():
            if name.startswith(main) and math.isfinite(line["value"]):
                interval = f" [{line['low']:.3f}, {line['high']:.3f}]"
                known = math.isfinite(line["low"])
                facts.append((name, f"{line['value']:.3f}" + interval * known))
        return token_view(
            [self.answer(row) for row in rows],
            title=title,
            measure="image",
            facts=facts,
            beside=False,
            picture=as_png(self.example_figure(rows[0])),
            text=repr(self),
        )

    def to_html(self, path: str | Path, rows: Sequence[int] | None = None) -> Path:
        """Saves :meth:`view` as a page that needs nothing else."""
        return self.view(rows).save(path)

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, Any]:
        return self.view()._repr_mimebundle_()

    def _repr_html_(self) -> str:
        return self.view().fragment()

    def save(self, folder: str | Path) -> None:
        """Writes both tables as Parquet, pictures and maps as safetensors.

        Args:
            folder: A folder; made if missing, and what is in it overwritten.
        """
        folder = Path(folder)
        write_atomically(folder / "tokens.parquet", self.tokens.to_parquet)
        write_atomically(folder / "responses.parquet", self.responses.to_parquet)
        facts: dict[str, Any] = {
            "split": self.split,
            "alignment": self.alignment,
            "kept": {},
        }
        tensors: dict[str, torch.Tensor] = {}
        for row, seen in self.kept.items():
            facts["kept"][row], more = pictured_tensors(str(row), seen)
            tensors |= more
        # Last: where it is, the others are.
        write_tensors(folder / "kept.safetensors", _KIND, facts, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> "ForgettingAnalysis":
        """Reads what :meth:`save` has written.

        Raises:
            FileNotFoundError: There is no such folder, or a file is missing in it.
            ValueError: It holds something else.
        """
        folder = Path(folder)
        facts, tensors = read_tensors(folder / "kept.safetensors", _KIND)
        return cls(
            tokens=pd.read_parquet(folder / "tokens.parquet"),
            responses=pd.read_parquet(folder / "responses.parquet"),
            kept={
                int(row): pictured_from(row, seen, tensors)
                for row, seen in facts["kept"].items()
            },
            split=facts["split"],
            alignment=facts["alignment"],
        )


def _figures():
    """The module that draws, imported only when something is drawn."""
    from vgpo import figures

    return figures
