"""The public data sets in small: the small world's questions in each set's own form.

No public set can be had everywhere, and in none is the truth about every token known.
These copies have the layout of the repositories on the hub (Parquet files, ShareGPT
conversations, relative paths of pictures, zip archives), so the code that reads the
real ones reads them, too.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset, List
from datasets import Image as ImageFeature
from PIL import Image

from vgpo.data.catalogue import CATALOGUE, Entry
from vgpo.testbed import World
from vgpo.testbed.data import encode_examples
from vgpo.testbed.questions import Example

FAMILY_OF = {
    "counting": "count",
    "mathvista": "sum",
    "logicvista": "compare",
    "mathverse_v": "chart",
}
"""Which of the small world's families stands in for a benchmark."""


def write_small_suite(root: str | Path, questions: int, seed: int = 0) -> list[str]:
    """Writes small copies of four benchmarks, each with one family of questions.

    Args:
        root: Where copies of repositories lie.
        questions: In each.
        seed: Names the questions.

    Returns:
        The names of the sets.
    """
    for name, family in FAMILY_OF.items():
        examples = World().examples(questions, (family,), seed=seed, split="heldout")
        write_small_set(CATALOGUE[name], examples, root)
    return list(FAMILY_OF)


def teach_longer(
    model, processor, steps: int, *, seed: int = 0, batch: int = 16
) -> list[float]:
    """Teaches a model of the small world some more, with faithful chains alone.

    Args:
        model: Changed in place.
        processor: Its processor.
        steps: Of AdamW at 5e-4.
        seed: Names the questions, of the training split.
        batch: Questions a step.

    Returns:
        The loss of each step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    world, losses = World(), []
    model.train()
    for step in range(steps):
        examples = [world.example(step * batch + i, seed=seed) for i in range(batch)]
        inputs = encode_examples(processor, examples, model.device)
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def write_small_set(
    entry: Entry, examples: Sequence[Example], root: str | Path
) -> Path:
    """Writes questions of the small world as a copy of a public set.

    Args:
        entry: Of ``vgpo.data.catalogue.CATALOGUE``; its form and its layout.
        examples: The questions; those without a picture have none there either.
        root: Where copies of repositories lie, each under its id.

    Returns:
        The file with the rows. ``load_questions(entry.name, root=root)`` reads it.

    Example:
        >>> import tempfile
        >>> from vgpo.data import CATALOGUE, load_questions
        >>> from vgpo.testbed import World
        >>> examples = World().examples(3, ["count"], split="heldout")
        >>> root = tempfile.mkdtemp()
        >>> write_small_set(CATALOGUE["counting"], examples, root).name
        'BUAADreamer_clevr_count_70k-00000-of-00001.parquet'
        >>> len(load_questions("counting", root=root))
        3
    """
    base = Path(root) / entry.repository
    base.mkdir(parents=True, exist_ok=True)
    if "messages" in entry.columns or not entry.columns:
        return _conversations(entry, examples, base)
    names = entry.columns
    rows = []
    for number, example in enumerate(examples):
        pictures = [] if example.image is None else [example.image]
        row = {"id": str(number), names["answer"]: example.answer}
        row[names["question"]] = _marked(example)
        if names["images"] == "images":
            row["images"] = pictures
        else:  # one picture, beside its path as text
            row["image"] = f"images/{number}.png"
            row[names["images"]] = pictures[0] if pictures else None
        if "choices" in names:
            row[names["choices"]] = []
        rows.append(row)
    several = names["images"] == "images"
    table = Dataset.from_list(rows).cast_column(
        names["images"], List(ImageFeature()) if several else ImageFeature()
    )
    file = base / "data" / f"{entry.split}-00000-of-00001.parquet"
    file.parent.mkdir(exist_ok=True)
    table.to_parquet(file)
    return file


def _conversations(entry: Entry, examples: Sequence[Example], base: Path) -> Path:
    assert entry.file is not None
    name = (entry.archive or "set_images.zip").removesuffix("_images.zip")
    rows, contents = [], {}
    for number, example in enumerate(examples):
        paths = []
        if example.image is not None:
            inside = f"{name}/{name}_{number}_0.png"
            contents[inside] = _png(example.image)
            paths = [f"./data/images/{inside}"]
        turns = [
            {"role": "user", "content": _marked(example)},
            {"role": "assistant", "content": example.answer},
        ]
        rows.append({"id": f"{name}_{number}", "messages": turns, "images": paths})
    file = base / entry.file
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    else:
        Dataset.from_list(rows).to_parquet(file)
    if entry.archive is None:
        for inside, content in contents.items():
            path = file.parent / inside
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return file
    with zipfile.ZipFile(base / entry.archive, "w") as archive:
        for inside, content in contents.items():
            archive.writestr(inside, content)
    return file


def _marked(example: Example) -> str:
    return example.question if example.image is None else f"<image>{example.question}"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()
