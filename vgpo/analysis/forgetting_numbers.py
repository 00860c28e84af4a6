"""The numbers of a forgetting analysis: per token, per answer, and over all answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from vgpo.analysis.pictured import AnsweredImages
from vgpo.stats.forgetting.comparing import Comparison, compare_right_wrong
from vgpo.stats.forgetting.decay import decay_curve
from vgpo.stats.forgetting.lengths import length_correlation
from vgpo.stats.forgetting.shares import accumulation_ratio, progress_profile
from vgpo.stats.intervals import mean_interval

KINDS = ("image", "query", "generated")
"""Columns of attention shares, in the order of
:attr:`vgpo.models.attention.AttentionSplit.masses`."""

NULLS = {"uniform": "spread evenly", "untrained": "untrained network"}
"""Columns of what knows nothing, with their names in the summary. They hold the image's
share of an attention that is spread evenly, and of a network with random weights."""


@dataclass(frozen=True, repr=False)
class ForgettingNumbers:
    """Tables of answers, and what is computed from them.

    Attributes:
        tokens: As of :class:`~vgpo.analysis.forgetting_analysis.ForgettingAnalysis`,
            and so are the others.
        responses: One row per answer and layer.
        kept: Pictures and attention maps by ``row``.
        split: Where late begins.
        alignment: Which attention a token's row is.
    """

    tokens: pd.DataFrame
    responses: pd.DataFrame
    kept: dict[int, AnsweredImages]
    split: float
    alignment: str = "prediction"

    def __len__(self) -> int:
        return self.responses["row"].nunique()

    @property
    def text(self) -> pd.Series:
        """The answers as text, by ``row``."""
        return self.per_answer["completion"]

    def masses(self, layer: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Shares of attention as :mod:`vgpo.stats.forgetting` takes them.

        Args:
            layer: One of the analysed layers; by default their mean.

        Returns:
            ``(masses, mask)``: (B, T, 3) float64 in the order image, query,
            generated, padded on the right with 0; and (B, T) bool. Rows are in the
            order of ``responses``.

        Raises:
            ValueError: ``layer`` was not analysed.
        """
        table = self.tokens
        if layer is not None:
            table = table[table["layer"] == layer]
            if table.empty:
                raise ValueError(
                    f"layer: {layer} was not analysed; there are "
                    f"{sorted(self.tokens['layer'].unique().tolist())}."
                )
        mean = table.groupby(["row", "t"], sort=True)[list(KINDS)].mean()
        rows = [
            torch.tensor(values.to_numpy(), dtype=torch.float64)
            for _, values in mean.groupby(level="row", sort=True)
        ]
        mask = [torch.ones(len(row), dtype=torch.bool) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        return pad(rows, batch_first=True), pad(mask, batch_first=True)

    @cached_property
    def per_token(self) -> pd.DataFrame:
        """``tokens`` with the mean over layers, indexed by ``row`` and ``t``, with
        ``length``, ``token``, the three shares and those of the nulls."""
        means = dict.fromkeys([*KINDS, *self.nulls], "mean")
        return self.tokens.groupby(["row", "t"]).agg(
            {"length": "first", "token": "first", **means}
        )

    @property
    def nulls(self) -> list[str]:
        """Columns of ``tokens`` with the image's share where nothing is known, one or
        both of :data:`~vgpo.analysis.forgetting_numbers.NULLS`."""
        return [name for name in NULLS if name in self.tokens]

    @cached_property
    def per_answer(self) -> pd.DataFrame:
        """``responses`` with the mean over layers, one row per answer; ``ratio_NULL``
        is the late/early ratio of each null."""
        first = self.responses.drop_duplicates("row").set_index("row")
        masses, mask = self.masses()
        image = masses[..., 0]
        ratios = {"ratio": image}
        ratios |= {f"ratio_{null}": self._null(null) for null in self.nulls}
        return first.drop(columns="layer").assign(
            image=(image.sum(dim=1) / mask.sum(dim=1)).numpy(),
            **{
                name: accumulation_ratio(mass, mask, self.split).numpy()
                for name, mass in ratios.items()
            },
        )

    def curves(
        self,
        groups: Sequence | None = None,
        bins: int = 20,
        clusters: Sequence | None = None,
    ) -> pd.DataFrame:
        """Attention over generation progress, mean over answers with 95 % bands.

        Args:
            groups: A name for each answer, to have a curve per group (a benchmark,
                a model); by default all are one group.
            bins: Stretches of progress.
            clusters: Which question each answer belongs to, where several share one:
                bands then come from drawing whole questions.

        Returns:
            Tidy: ``group``, ``kind`` (image, query, generated; and the nulls, which
            are shares of the image), and the columns of
            :func:`vgpo.stats.forgetting.decay_curve`.

        Raises:
            ValueError: ``groups`` or ``clusters`` does not name every answer.
        """
        masses, mask = self.masses()
        shares = torch.cat(
            [masses, *(self._null(null)[..., None] for null in self.nulls)], dim=-1
        )
        for name, given in (("groups", groups), ("clusters", clusters)):
            if given is not None and len(given) != len(masses):
                raise ValueError(
                    f"{name}: need one per answer, got {len(given)} for {len(masses)}."
                )
        groups = ["all answers"] * len(masses) if groups is None else list(groups)
        owner = pd.Series(range(len(masses)) if clusters is None else list(clusters))
        profile = progress_profile(shares, mask, bins)
        member = pd.Series(range(len(masses))).groupby(pd.Series(groups), sort=False)
        return pd.concat(
            [
                decay_curve(
                    profile[list(rows), :, k], clusters=owner.iloc[list(rows)]
                ).assign(group=group, kind=kind)
                for group, rows in member.groups.items()
                for k, kind in enumerate([*KINDS, *self.nulls])
            ],
            ignore_index=True,
        )

    def _null(self, name: str) -> torch.Tensor:
        """(B, T) share of the image in a null, padded like ``masses``."""
        rows = [
            torch.tensor(values.to_numpy(), dtype=torch.float64)
            for _, values in self.per_token[name].groupby(level="row", sort=True)
        ]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def right_against_wrong(self, clusters: Sequence | None = None) -> Comparison:
        """The late/early ratio of right against wrong answers.

        Args:
            clusters: Which question each answer belongs to, where several share one.

        Raises:
            ValueError: No reference answers were given.
        """
        if "correct" not in self.responses:
            raise ValueError(
                "answers: none were given to analyze, so right and wrong answers "
                "cannot be told apart; pass answers=[...], or a data set with a "
                "column 'answer'."
            )
        return self._right_wrong(self.per_answer["ratio"], clusters)

    def _right_wrong(self, ratio: pd.Series, clusters) -> Comparison:
        correct = self.per_answer["correct"]
        known = correct.notna()
        owner = None if clusters is None else np.asarray(clusters)[known]
        return compare_right_wrong(ratio[known], correct[known], clusters=owner)

    def summary(self, clusters: Sequence | None = None) -> pd.DataFrame:
        """The main numbers with their 95 % intervals, one per row.

        Shares of attention are means over answers; a fifth is one of progress. Rows
        that end on "spread evenly" or "untrained network" are the row above them where
        nothing is known: what a growing context does by itself.

        Args:
            clusters: Which question each answer belongs to, where several share one:
                whole questions are then drawn for the intervals.

        Raises:
            ValueError: ``clusters`` does not name every answer.
        """
        table = self.per_answer
        if clusters is not None and len(clusters) != len(table):
            raise ValueError(
                f"clusters: need one per answer, got {len(clusters)} for {len(table)}."
            )
        masses, mask = self.masses()
        image = {"": masses[..., 0]}
        image |= {f", {NULLS[name]}": self._null(name) for name in self.nulls}
        ratio = {"": table["ratio"]}
        ratio |= {f", {NULLS[name]}": table[f"ratio_{name}"] for name in self.nulls}
        fifths = {
            name: progress_profile(mass[..., None], mask, bins=5)[..., 0].numpy()
            for name, mass in image.items()
        }
        own, generated = fifths[""], progress_profile(masses, mask, bins=5)[:, -1, 2]
        share = (0, 1)  # which no end of an interval leaves, of however few answers

        def mean(values, bounds=(-np.inf, np.inf)):
            return mean_interval(values, clusters=clusters, bounds=bounds)

        rows = {
            "on the image": mean(table["image"], share),
            "on the image, first fifth": mean(own[:, 0], share),
            "on the image, last fifth": mean(own[:, -1], share),
        }
        for name, fifth in fifths.items():
            rows[f"on the image, last less first{name}"] = mean(
                fifth[:, -1] - fifth[:, 0]
            )
        rows["on generated text, last fifth"] = mean(generated.numpy(), share)
        for name, of_null in ratio.items():
            rows[f"late/early ratio{name}"] = mean(of_null, (0, np.inf))
        for name, of_null in ratio.items():
            rows[f"ratio against length, Spearman's rho{name}"] = length_correlation(
                of_null, table["length"], clusters=clusters
            )
        p_values = {}
        if "correct" in table:
            outcome = self.right_against_wrong(clusters)
            rows["late/early ratio, right answers"] = outcome.right
            rows["late/early ratio, wrong answers"] = outcome.wrong
            for name, of_null in ratio.items():
                compared = self._right_wrong(of_null, clusters)
                rows[f"right less wrong{name}"] = compared.difference
                p_values[f"right less wrong{name}"] = compared.p_value
        summary = pd.DataFrame({name: row._asdict() for name, row in rows.items()}).T
        return summary.astype({"count": int}).assign(
            p_value=pd.Series(p_values, dtype=float)
        )
