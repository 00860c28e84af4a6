"""What is to be asked: sets of questions, each question with an identity of its own."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image

from vgpo.data.catalogue import SUITES
from vgpo.data.questions import Questions, load_questions


@dataclass(frozen=True)
class Surveyed:
    """What is known of a question before it is asked.

    Attributes:
        place: Its index among the questions.
        question_id: A hash of text, reference and pixels; the same in every run.
        pictures: ``id`` (a hash of the pixels), ``width`` and ``height`` of each.
        length: Of the prompt, roughly, in tokens.
    """

    place: int
    question_id: str
    pictures: tuple[dict[str, Any], ...]
    length: float

    @property
    def ids(self) -> tuple[str, ...]:
        """Of its pictures."""
        return tuple(picture["id"] for picture in self.pictures)


def survey(questions: Questions) -> list[Surveyed]:
    """Each question's identity and expected length; pictures are decoded once."""
    found, seen = [], {}
    for place, row in enumerate(questions.rows):
        pictures = tuple(
            {
                "id": _picture_id(picture),
                "width": picture.width,
                "height": picture.height,
            }
            for picture in row["images"]
        )
        text = text_of(row["prompt"])
        said = json.dumps([text, row["answer"], [p["id"] for p in pictures]])
        question_id = hashlib.sha256(said.encode()).hexdigest()[:16]
        # The same question twice is two questions.
        seen[question_id] = seen.get(question_id, 0) + 1
        if seen[question_id] > 1:
            question_id += f"-{seen[question_id]}"
        # Patches of 28 pixels and some four letters make a token each.
        pixels = sum(p["width"] * p["height"] for p in pictures)
        length = pixels / 28**2 + len(text) / 4
        found.append(Surveyed(place, question_id, pictures, length))
    return found


def _picture_id(picture: Image.Image) -> str:
    digest = hashlib.sha256(f"{picture.mode} {picture.size} ".encode())
    digest.update(picture.tobytes())
    return digest.hexdigest()[:16]


def text_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation as one text, with ``<image>`` where pictures belong."""
    return "".join(
        "<image>" if part["type"] == "image" else part["text"]
        for turn in messages
        for part in turn["content"]
    )


def gather(dataset: Any, how: dict[str, Any]) -> list[Questions]:
    """Sets of questions, from whatever is given to be evaluated.

    Raises:
        ValueError: It is nothing of the kind, cannot be loaded, or two sets have one
            name.
    """
    if isinstance(dataset, Questions):
        return [dataset]
    if isinstance(dataset, str) and dataset in SUITES:
        return [load_questions(one, **how) for one in SUITES[dataset]]
    if isinstance(dataset, Mapping):
        return [
            one if isinstance(one, Questions) else load_questions(one, name=name, **how)
            for name, one in dataset.items()
        ]
    if isinstance(dataset, list | tuple) and not _are_rows(dataset):
        found = [one for each in dataset for one in gather(each, how)]
    elif isinstance(dataset, Dataset | list | tuple | str | Path):
        found = [load_questions(dataset, **how)]
    else:
        raise ValueError(
            f"dataset must be a name, a path, rows or questions, got {dataset!r:.80}"
        )
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"dataset: {', '.join(twice)} is there more than once; give the sets names "
            "by a dictionary, or by NAME=PATH on the command line"
        )
    return found


def _are_rows(values: Sequence[Any]) -> bool:
    return not values or isinstance(values[0], Mapping)
