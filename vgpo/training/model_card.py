"""The card of a trained model: what was done, with which result, and what is known.

Names come from users and data sets, so they are hostile input: they stand in the front
matter as YAML writes them, in code as Python's own literals, and elsewhere escaped.
"""

import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from huggingface_hub import ModelCardData

from vgpo.data.splits import TESTBED
from vgpo.files import read_json_lines, write_atomically
from vgpo.method.shaping import METHODS
from vgpo.method.visual import VGPO
from vgpo.training.metrics import FILE_NAME as METRICS
from vgpo.training.run_record import read_run_record

CARD = "README.md"
PAPER = "https://arxiv.org/abs/2604.09349"
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.\-]{0,60}")
_ENDS = 20
_SHOWN = ("questions", "greedy", "avg", "no_answer", "cut_off")


def verdict() -> dict[str, str]:
    """What this project found of the paper's main claim, as last recorded.

    Returns:
        ``claim`` (its number in the ledger), ``verdict`` and ``text``.

    Example:
        >>> sorted(verdict())
        ['claim', 'text', 'verdict']
    """
    place = files("vgpo.training").joinpath("verdict.json")
    return json.loads(place.read_text(encoding="utf-8"))


def model_card(
    record: Mapping[str, Any],
    *,
    name: str,
    licence: str | None = None,
    evaluation: pd.DataFrame | None = None,
    rewards: tuple[float, float] | None = None,
    merged: bool = False,
) -> str:
    """A model card as Markdown with front matter.

    Args:
        record: From :func:`vgpo.training.run_record.read_run_record`.
        name: Of the model.
        licence: An identifier of the hub, such as ``"apache-2.0"``. None states none:
            it is yours to choose, and the base model's binds you.
        evaluation: A run's :meth:`vgpo.evaluation.runs.EvaluatedRun.summary`.
        rewards: Mean reward of the first and the last logged steps.
        merged: Whether adapters are merged into the weights.

    Raises:
        ValueError: ``licence`` is no identifier.
    """
    name = one_line(name)
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise ValueError(
            f"licence must be an identifier of the hub such as 'apache-2.0', got "
            f"{licence!r}"
        )
    adapters = record.get("adapters") is not None and not merged
    parts = [
        f"---\n{_front_matter(record, name, licence, adapters)}\n---",
        f"# {escaped(name)}",
        _opening(record, merged),
        _caveat(record),
        "## How to load it",
        _loading(record, name, adapters),
        "## Results",
        _results(evaluation, rewards),
        "## How it was trained",
        _training(record),
        "## Licence",
        _licence_words(licence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_card(folder: str | Path, **options: Any) -> Path:
    """Writes the card of a run into its folder.

    Args:
        folder: Of the run, with its ``training.json``.
        **options: As :func:`model_card`; ``name`` is the folder's by default.

    Raises:
        ValueError: The folder holds no record of a run.
    """
    folder = Path(folder)
    options = {"name": folder.resolve().name} | options
    card = model_card(
        read_run_record(folder), rewards=first_and_last_reward(folder), **options
    )
    write_atomically(folder / CARD, card)
    return folder / CARD


def first_and_last_reward(folder: str | Path) -> tuple[float, float] | None:
    """Mean reward of a run's first and last 20 logged steps; None of fewer than 40."""
    path = Path(folder) / METRICS
    rows = read_json_lines(path) if path.is_file() else []
    values = [row["reward"] for row in rows if row.get("reward") is not None]
    if len(values) < 2 * _ENDS:
        return None
    return sum(values[:_ENDS]) / _ENDS, sum(values[-_ENDS:]) / _ENDS


def one_line(text: str) -> str:
    """A text without line breaks and control characters, which end a block.

    Example:
        >>> one_line("a\\n---\\nlicense: mit")
        'a --- license: mit'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def escaped(text: Any) -> str:
    """A text as it is, wherever it stands in Markdown.

    Example:
        >>> escaped("<b>|x")
        '&lt;b&gt;\\\\|x'
    """
    plain = html.escape(one_line(text), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", plain)


def _fenced(text: str, language: str) -> str:
    """A block of code that nothing in it can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _on_hub(name: Any) -> str | None:
    """A name if it can be one of the hub's, whose front matter refuses others."""
    fits = isinstance(name, str) and re.fullmatch(r"[\w.\-]+/[\w.\-]+", name)
    return name if fits else None


def _front_matter(record, name: str, licence: str | None, adapters: bool) -> str:
    base = _on_hub(record.get("base_model"))
    dataset = _on_hub(record["data"].get("dataset"))
    return ModelCardData(
        model_name=name,
        base_model=base,
        datasets=[dataset] if dataset else None,
        license=licence,
        library_name="peft" if adapters else "transformers",
        pipeline_tag="image-text-to-text",
        tags=["vgpo", "trl", "grpo", one_line(record["method"])],
    ).to_yaml()


def _opening(record, merged: bool) -> str:
    base = record.get("base_model")
    of = escaped(base) if base else "a base model of no public name"
    what = "A fine-tuned model of"
    if record.get("adapters") is not None:
        what = "LoRA adapters, merged into" if merged else "LoRA adapters for"
    bits = ", trained over 4-bit weights," if record.get("four_bit") else ""
    method = escaped(record["method"])
    return (
        f"{what} {of}{bits} by reinforcement learning with the method *{method}*, in "
        "the package `vgpo` on TRL's GRPO trainer."
    )


def _caveat(record) -> str:
    """Of VGPO alone; of other methods the ledger says nothing here."""
    if METHODS.get(record["method"]) is not VGPO:
        return ""
    found = verdict()
    return (
        f"> **What is known of the method.** {found['text']} (Claim {found['claim']} "
        f"of the reproduction's ledger: {found['verdict']}. Small models and small "
        f"worlds; [the paper]({PAPER}) reports gains at 7B and 32B.) That this model "
        "was trained with VGPO is no evidence that it is better than its baseline."
    )


def _loading(record, name: str, adapters: bool) -> str:
    load = "AutoModelForImageTextToText.from_pretrained"
    lines = ["from transformers import AutoModelForImageTextToText, AutoProcessor", ""]
    base = repr(record.get("base_model") or "the base model")
    if record.get("base_model") == TESTBED:
        # The small world's own model comes with the package, and so does its processor.
        base = "CHECKPOINT"
        lines.insert(1, "from vgpo.testbed import CHECKPOINT")
    if adapters:
        lines.insert(0, "from peft import PeftModel")
        lines += [
            f'base = {load}({base}, dtype="auto")',
            f"model = PeftModel.from_pretrained(base, {name!r})",
        ]
    else:
        lines.append(f'model = {load}({name!r}, dtype="auto")')
    lines.append(f"processor = AutoProcessor.from_pretrained({name!r})")
    data = record["data"]
    words = ""
    if suffix := data.get("prompt_suffix"):
        words = f"\n\nEach question was followed by:\n\n{_fenced(suffix, 'text')}"
    if "max_pixels" in data:
        words += (
            f"\n\nPictures had {data.get('min_pixels', 0):,} to {data['max_pixels']:,} "
            "pixels; others were scaled."
        )
    return _fenced("\n".join(lines), "python") + words


def _results(evaluation: pd.DataFrame | None, rewards) -> str:
    words = []
    if evaluation is None:
        words.append(
            "No evaluation was given, so nothing is claimed of this model's accuracy."
        )
    else:
        shown = [name for name in _SHOWN if name in evaluation]
        words.append(
            "Share of right answers, with 95 % intervals.\n\n"
            + _table(evaluation, shown)
        )
    if rewards is not None:
        first, last = rewards
        words.append(
            f"Mean reward in training: {first:.3f} over the first {_ENDS} logged "
            f"steps, {last:.3f} over the last. That is no evaluation: it is of "
            "training questions, sampled."
        )
    return "\n\n".join(words)


def _table(table: pd.DataFrame, shown: list[str]) -> str:
    lines = [f"| set | {' | '.join(shown)} |", "|---" * (len(shown) + 1) + "|"]
    for place, name in enumerate(table.index):
        cells = [escaped(name)]
        for column in shown:
            value = table[column].iloc[place]
            cell = f"{value:.3f}" if isinstance(value, float) else f"{value}"
            if f"{column}_low" in table:
                ends = [table[f"{column}_{end}"].iloc[place] for end in ("low", "high")]
                cell += f" [{ends[0]:.3f}, {ends[1]:.3f}]"
            cells.append(cell)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _training(record) -> str:
    shown = {
        "method": record["method"],
        "method_settings": record["method_settings"],
        "rewards": record["rewards"],
        "data": record["data"],
        "adapters": record.get("adapters"),
        "settings": record["settings"],
        "versions": record["versions"],
    }
    rows = record["data"].get("train_rows")
    counted = "an unknown number of" if rows is None else f"{rows:,}"
    text = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    return (
        f"On {counted} rows. Settings that are not listed are the defaults of these "
        f"versions.\n\n{_fenced(text, 'yaml')}"
    )


def _licence_words(licence: str | None) -> str:
    base = "The licence of the base model and of the data bind whoever uses this model."
    if licence is None:
        return f"None is stated. {base}"
    return f"`{licence}`, as far as it is for its trainers to choose. {base}"
