"""Where a model looks while it reasons: the forgetting analysis.

    analysis = vgpo.analyze(model, processor, dataset)
    analysis.summary()
    analysis.figures()

For every answer, the attention of each of its tokens on the image, on the question
and on what was generated before; how the image's part falls; and whether right
answers keep more of it than wrong ones.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import nn
from tqdm import tqdm
from transformers import ProcessorMixin

from vgpo.analysis.answers_file import AnswersFile
from vgpo.analysis.controls import untrained_copy
from vgpo.analysis.pictured import AnsweredImages, image_parts, images_of
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
from vgpo.models.attention import attention_split
from vgpo.models.fingerprints import model_fingerprint, question_fingerprint
from vgpo.models.handle import resolve
from vgpo.models.image_grids import shown_whole
from vgpo.models.inputs import (
    add_completion,
    check_messages,
    encode_prompt,
    eval_mode,
    mismatch_named,
    read_pictures,
    require_processor,
    special_token_ids,
    token_texts,
)
from vgpo.rewards import accuracy_reward
from vgpo.stats.forgetting.comparing import Comparison, compare_right_wrong, mean_ratios
from vgpo.stats.forgetting.decay import decay_curve
from vgpo.stats.forgetting.lengths import length_correlation
from vgpo.stats.forgetting.shares import (
    accumulation_ratio,
    progress_profile,
    uniform_shares,
)
from vgpo.stats.intervals import mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KIND = "vgpo.ForgettingAnalysis"

KINDS = ("image", "query", "generated")
"""Columns of attention shares, in the order of
:attr:`vgpo.models.attention.AttentionSplit.masses`."""

NULLS = {"uniform": "spread evenly", "untrained": "untrained network"}
"""Columns of what knows nothing, with their names in the summary. They hold the image's
share of an attention that is spread evenly, and of a network with random weights."""


@dataclass(frozen=True, repr=False)
class ForgettingAnalysis:
    """What :func:`analyze` found.

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

    tokens: pd.DataFrame
    responses: pd.DataFrame
    kept: dict[int, AnsweredImages]
    split: float
    alignment: str = "prediction"

    def __len__(self) -> int:
        return self.responses["row"].nunique()

    def __repr__(self) -> str:
        layers = ", ".join(map(str, sorted(self.responses["layer"].unique())))
        return (
            f"ForgettingAnalysis({len(self)} answers, layers {layers}, "
            f"{self.responses['image'].mean():.0%} on the image, maps of "
            f"{len(self.kept)})"
        )

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
        """``tokens`` with the mean over layers: index ``row`` and ``t``; ``length``,
        ``token``, the three shares and those of the nulls."""
        means = dict.fromkeys([*KINDS, *self.nulls], "mean")
        return self.tokens.groupby(["row", "t"]).agg(
            {"length": "first", "token": "first", **means}
        )

    @property
    def nulls(self) -> list[str]:
        """Columns of ``tokens`` with the image's share where nothing is known: one or
        both of :data:`NULLS`."""
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


def analyze(
    model: nn.Module,
    processor: ProcessorMixin,
    messages_or_dataset: Dataset | list,
    completions: Sequence[str] | None = None,
    answers: Sequence[str] | None = None,
    *,
    layers: Sequence[int] | str = (-1,),
    alignment: str = "prediction",
    split: float = 0.5,
    max_new_tokens: int = 2048,
    keep_maps: int = 8,
    completions_file: str | Path | None = None,
    untrained: bool = False,
    progress: bool | None = None,
) -> ForgettingAnalysis:
    r"""Where each token of each answer looks, and how that changes as it reasons.

    One answer at a time: the model writes it unless it is given (greedily, under what
    else its generation configuration says, such as a repetition penalty); then one
    forward pass in which the attention of each generated token is split over image,
    question and generated text (:func:`vgpo.models.attention.attention_split`,
    which says what counts as which, and what it costs). Beside the model, an answer of
    T tokens to an image of M tokens takes 4 T M bytes while its maps are kept: 9.6 MB
    for 2,000 and 1,200.

    Args:
        model: A vision-language model, wrapped or not.
        processor: The model's own processor.
        messages_or_dataset: One conversation (``[{"role": ..., "content": ...}]``),
            several, or a data set as TRL trains on: rows with ``prompt``, ``image``
            or ``images``, and perhaps ``answer`` (``vgpo.data.to_prompts`` makes
            them of other columns).
        completions: The answers to analyse; by default the model writes them.
        answers: Reference answers, to tell right from wrong by the last ``\boxed{}``
            (:func:`vgpo.rewards.accuracy_reward`); by default the data set's.
        layers: See :func:`vgpo.models.attention.attention_split`.
        alignment: See :func:`vgpo.models.attention.attention_split`.
        split: Where late begins, in (0, 1).
        max_new_tokens: Longest answer the model writes.
        keep_maps: For how many answers pictures and attention maps are kept.
        completions_file: JSON lines in which each answer the model writes is kept at
            once. What is in it from the same model (weights, adapters, precision and
            generation settings) to the same conversation (pixels included) is not
            generated again: a stopped analysis goes on.
        untrained: Whether the answers also go through a network of the same shape
            with random weights (:func:`vgpo.analysis.controls.untrained_copy`), to see
            what of a falling share needs no forgetting. It costs another forward pass
            an answer, and the model's memory once more; the column ``uniform``, for
            which a formula is enough, is there in any case.
        progress: Whether to show a progress bar; by default, if there is a terminal.

    Returns:
        The tables, with methods that summarise and draw them. Where the model writes
        an answer, the token that ends it is its last.

    Raises:
        ValueError: What is asked is not one of the above; a conversation without
            image; another model's processor or a tokenizer; completions or answers
            that are not one per conversation. The row is named.

    Example:
        >>> from vgpo.testbed import World, build_processor, build_tiny, make_dataset
        >>> processor = build_processor()
        >>> model = build_tiny(processor, hidden_size=64, layers=2)
        >>> rows = make_dataset(2, family="sum")
        >>> analysis = analyze(model, processor, rows, max_new_tokens=8)
        >>> analysis.tokens.columns[:4].tolist()
        ['row', 'layer', 't', 'length']
        >>> sorted(analysis.figures())
        ['decay', 'example', 'heatmaps', 'length', 'ratio']
    """
    rows = _rows(messages_or_dataset)
    for name, given in (("completions", completions), ("answers", answers)):
        if isinstance(given, str):
            raise ValueError(
                f"{name}: must be a list with one for each conversation, got one text; "
                f"write [{given[:40]!r}]."
            )
        if given is not None and len(given) != len(rows):
            raise ValueError(
                f"{name}: need one per conversation, got {len(given)} for {len(rows)}."
            )
    if completions is not None and completions_file is not None:
        raise ValueError(
            "completions_file: it keeps what the model writes; with completions given "
            "there is nothing to keep."
        )
    if keep_maps < 0:
        raise ValueError(f"keep_maps: must not be negative, got {keep_maps}.")
    if not 0 < split < 1:
        raise ValueError(f"split: must be in (0, 1), got {split}.")
    handle = resolve(model)
    require_processor(processor)
    special_ids = special_token_ids(processor.tokenizer)
    written = None if completions_file is None else AnswersFile(completions_file)
    if written is not None:
        identity = model_fingerprint(handle)
    null = resolve(untrained_copy(model)) if untrained else None
    tokens: list[pd.DataFrame] = []
    responses: list[dict[str, object]] = []
    kept: dict[int, AnsweredImages] = {}
    disable = None if progress is None else not progress
    with eval_mode(model):
        for row, asked in enumerate(tqdm(rows, desc="answers", disable=disable)):
            try:
                messages = read_pictures(_conversation(asked))
                completion: str | list[int] | None
                completion = None if completions is None else completions[row]
                prompt = encode_prompt(handle, processor, messages)
                if written is not None:
                    key = question_fingerprint(identity, prompt, max_new_tokens)
                    completion = written.ids.get(key)
                inputs, ids = add_completion(
                    handle,
                    processor,
                    prompt,
                    completion,
                    max_new_tokens=max_new_tokens,
                )
                if written is not None and completion is None:
                    written.add(key, ids.tolist())
                with mismatch_named(handle, inputs):
                    look = partial(
                        attention_split,
                        inputs=inputs,
                        completion_length=len(ids),
                        layers=layers,
                        alignment=alignment,
                        special_token_ids=special_ids,
                    )
                    found = look(handle)
                    knows_nothing = None if null is None else look(null)
                text = processor.tokenizer.decode(ids, skip_special_tokens=True)
                graded = _graded(text, asked, None if answers is None else answers[row])
            except ValueError as error:
                raise ValueError(f"conversation {row}: {error}") from error
            words = token_texts(processor.tokenizer, ids.tolist())
            nulls = _nulls(found, knows_nothing, alignment)
            tokens += _token_tables(row, words, found, nulls)
            responses += [r | graded for r in _response_rows(row, text, found, split)]
            if row < keep_maps:
                maps = [grid.cpu() for grid in found.image_maps[0]]
                images = images_of(messages)
                whole = shown_whole(processor, images)
                kept[row] = AnsweredImages(images, maps, whole)
    table = pd.DataFrame(responses)
    return ForgettingAnalysis(
        pd.concat(tokens, ignore_index=True), table, kept, split, alignment
    )


def _graded(text: str, asked: dict | list, answer: str | None) -> dict:
    if answer is None and isinstance(asked, dict):
        answer = asked.get("answer")
    if answer is None:
        return {}
    return {
        "answer": answer,
        "correct": accuracy_reward([text], answer=[answer]) == [1.0],
    }


def _figures():
    """The module that draws, imported only when something is drawn."""
    from vgpo import figures

    return figures


def _nulls(found, knows_nothing, alignment) -> dict[str, torch.Tensor]:
    """Shares of the image where nothing is known, (layers, T) by name."""
    images, queries = found.prompt_tokens.cpu().T
    even = uniform_shares(images, queries, found.completion_mask.cpu(), alignment)
    nulls = {"uniform": even[0, :, 0].expand(len(found.layers), -1)}
    if knows_nothing is not None:
        nulls["untrained"] = knows_nothing.layer_masses[:, 0, :, 0].cpu()
    return nulls


def _token_tables(row, words, found, nulls) -> Iterator[pd.DataFrame]:
    masses = found.layer_masses[:, 0].cpu().numpy()
    special = found.special_mass[:, 0].cpu().numpy()
    for index, layer in enumerate(found.layers):
        yield pd.DataFrame(
            {
                "row": row,
                "layer": layer,
                "t": range(1, len(words) + 1),
                "length": len(words),
                "token": words,
                **{kind: masses[index, :, k] for k, kind in enumerate(KINDS)},
                "special": special[index],
                **{name: shares[index].numpy() for name, shares in nulls.items()},
            }
        )


def _response_rows(row, text, found, split) -> Iterator[dict]:
    image = found.layer_masses[:, 0, :, 0].cpu()
    ratios = accumulation_ratio(image, torch.ones_like(image), split)
    for layer, mass, ratio in zip(found.layers, image, ratios, strict=True):
        yield {
            "row": row,
            "layer": layer,
            "length": len(mass),
            "image": float(mass.mean()),
            "ratio": float(ratio),
            "completion": text,
        }


def _rows(asked) -> Dataset | list:
    """What was asked, row by row; a data set decodes its images as it is read."""
    if not isinstance(asked, Dataset | list):
        raise ValueError(
            "messages_or_dataset: must be a conversation, a list of conversations or "
            f"rows, or a datasets.Dataset, got {type(asked).__name__}."
        )
    if not len(asked):
        raise ValueError("messages_or_dataset: it is empty.")
    is_one = isinstance(asked[0], dict) and "role" in asked[0]
    return [asked] if is_one else asked


def _conversation(row: dict | list) -> list[dict]:
    """A row's conversation, with its images in their places."""
    if not isinstance(row, dict):
        return row
    if not isinstance(row.get("prompt"), list):
        raise ValueError(
            "messages_or_dataset: a row needs a conversation in 'prompt', it has "
            f"{sorted(row)}; vgpo.data.to_prompts makes one of a question's columns."
        )
    check_messages(row["prompt"])
    images = row.get("images")
    if images is None:
        images = [row["image"]] if row.get("image") is not None else []
    waiting = iter(images)
    turns = []
    for turn in row["prompt"]:
        content = turn["content"]
        if not isinstance(content, str):
            content = [
                {"type": "image", "image": next(waiting, None)}
                if part["type"] == "image" and part.get("image") is None
                else part
                for part in content
            ]
        turns.append({**turn, "content": content})
    places = [p.get("image") for turn in turns for p in image_parts(turn)]
    if None in places or next(waiting, None) is not None:
        raise ValueError(
            f"messages_or_dataset: the row has {len(images)} images and its prompt "
            f"{len(places)} places for images."
        )
    return turns
