"""Questions, answers and pictures of any data set as conversations, row by row.

What cannot be trained on is found when the data are loaded, with the row's number: a
picture that cannot be decoded, an answer that no completion can match, a question that
is no text. Found at step 900, it would end a run that nobody watches.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, LargeList, List
from datasets import Image as ImageFeature
from PIL import Image
from tqdm import tqdm
from transformers import PreTrainedConfig, ProcessorMixin

from vgpo.data.archives import PictureStore
from vgpo.data.forms import MARK as IMAGE_MARK
from vgpo.data.forms import picture_list
from vgpo.pictures import open_picture
from vgpo.rewards import parse_reference

logger = logging.getLogger(__name__)

BOX = "\\boxed"
"""In a question, a demand for the answer's form, as the suffix makes it."""

PICTURES = "images"
"""Column of the pictures, as TRL calls it."""

ON_BAD_ROW = ("raise", "skip")
_LISTED = 20
_CHECKED_AT_ONCE = 256


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be trained on.

    Attributes:
        row: Its index in the data set, from 0.
        reason: What is wrong, and what to do about it.
    """

    row: int
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"


@dataclass(frozen=True)
class _Reader:
    """How one row of a data set becomes question, pictures and answer."""

    question: str
    answer: str
    images: str
    folder: Path | PictureStore | None
    image_tokens: tuple[str, ...]
    label_names: Sequence[str] | None

    def text(self, row: dict[str, Any]) -> str:
        text = row[self.question]
        if not isinstance(text, str):
            hint = (
                "; a column of chat messages is no question: name the column that "
                "holds the question's text"
                if isinstance(text, list)
                else ""
            )
            raise ValueError(
                f"column {self.question!r} must hold text, it holds "
                f"{type(text).__name__}{hint}"
            )
        if not text.replace(IMAGE_MARK, "").strip():
            raise ValueError(f"column {self.question!r} is empty")
        for token in self.image_tokens:
            if token in text:
                raise ValueError(
                    f"column {self.question!r} holds the model's own image token "
                    f"{token!r} as text; write {IMAGE_MARK} where a picture belongs"
                )
        return text

    def opened(self, value: Any) -> Image.Image:
        if isinstance(self.folder, PictureStore):
            return open_picture(self.folder.find(value), self.folder.folder)
        return open_picture(value, self.folder)

    def pictures(self, row: dict[str, Any]) -> list[Image.Image]:
        values = picture_list(row[self.images])
        pictures = []
        for number, one in enumerate(values, start=1):
            if one is None:
                raise ValueError(f"picture {number} of {len(values)} is missing (null)")
            try:
                pictures.append(self.opened(one))
            except ValueError as error:
                which = (
                    f"picture {number} of {len(values)}: " if len(values) > 1 else ""
                )
                raise ValueError(f"{which}{error}") from error
        return pictures

    def reference(self, row: dict[str, Any]) -> str:
        try:
            return parse_reference(row[self.answer], self.label_names)
        except ValueError as error:
            raise ValueError(f"column {self.answer!r}: {error}") from error

    def problem(self, row: dict[str, Any]) -> str | None:
        """What is wrong with a row, or None."""
        try:
            text = self.text(row)
            self.reference(row)
            pictures = self.pictures(row)
            marks = text.count(IMAGE_MARK)
            if marks and marks != len(pictures):
                raise ValueError(
                    f"column {self.question!r} marks {marks} pictures with "
                    f"{IMAGE_MARK}, and column {self.images!r} holds {len(pictures)}"
                )
        except ValueError as error:
            return str(error)
        return None


def picture_tokens(config: PreTrainedConfig, processor: ProcessorMixin) -> list[str]:
    """Texts that the tokenizer takes for a picture's place, from the model's ids."""
    ids = {
        value
        for name, value in config.to_dict().items()
        if name.endswith(("token_id", "token_index"))
        and any(kind in name for kind in ("image", "video", "vision"))
        and isinstance(value, int)
    }
    tokens = processor.tokenizer.convert_ids_to_tokens(sorted(ids))
    return [token for token in tokens if token and token != IMAGE_MARK]


def find_bad_rows(
    rows: Dataset,
    question: str,
    answer: str,
    images: str,
    *,
    folder: str | Path | PictureStore | None = None,
    image_tokens: Sequence[str] = (),
) -> list[BadRow]:
    """Every row that cannot be trained on, and why; each picture is decoded once.

    Args:
        rows: Any data set with these columns; the last may be absent where no row has
            a picture.
        question: Column of the question.
        answer: Column of the reference answer.
        images: Column of a picture, a list of pictures, or nothing.
        folder: Where relative paths of pictures begin, or a store with archives.
        image_tokens: Text that the model's tokenizer would take for a picture.

    Returns:
        The bad rows in order.

    Example:
        >>> rows = Dataset.from_dict({"q": ["2 ?", "3 ?"], "a": ["2", None]})
        >>> [bad.row for bad in find_bad_rows(undecoded(rows, "i"), "q", "a", "i")]
        [1]
    """
    rows = undecoded(rows, images)
    reader = _reader(rows, question, answer, images, folder, image_tokens)
    bad = []
    # Pillow lets go of the interpreter while it decodes, so threads suffice.
    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(rows), desc="checking rows", disable=None, leave=False) as bar,
    ):
        for start in range(0, len(rows), _CHECKED_AT_ONCE):
            some = [
                rows[i] for i in range(start, min(start + _CHECKED_AT_ONCE, len(rows)))
            ]
            for row, reason in enumerate(pool.map(reader.problem, some), start):
                bar.update()
                if reason is not None:
                    bad.append(BadRow(row, reason))
    return bad


def to_prompts(
    rows: Dataset,
    question: str,
    answer: str,
    images: str,
    *,
    suffix: str = "",
    folder: str | Path | PictureStore | None = None,
    image_tokens: Sequence[str] = (),
    on_bad_row: str = "raise",
) -> Dataset:
    """Rows of question, answer and images as conversations, made on access.

    Args:
        rows: Any data set with these columns; pictures in any form that
            :func:`vgpo.pictures.open_picture` reads.
        question: Column of the question; ``<image>`` in it marks a picture's place.
        answer: Column of the answer, see :func:`vgpo.rewards.parse_reference`.
        images: Column of a picture, a list of pictures, or nothing (None, empty list).
        suffix: Put after each question, on a line of its own, unless the question asks
            for ``\\boxed`` itself, as those of some benchmarks do.
        folder: Where relative paths of pictures begin, or a store with archives.
        image_tokens: Text that the model's tokenizer would take for a picture.
        on_bad_row: ``"raise"`` refuses the data set at its first bad rows, ``"skip"``
            leaves them out and lists them in a warning.

    Returns:
        The same rows with ``prompt``, ``images`` (RGB) and ``answer``.

    Raises:
        ValueError: A row cannot be trained on, or none can; the rows are named.

    Example:
        >>> rows = Dataset.from_dict({"q": ["<image>How many?"], "a": [3], "i": [[]]})
        >>> to_prompts(rows, "q", "a", "i")
        Traceback (most recent call last):
        ...
        ValueError: 1 of 1 rows cannot be asked or trained on: row 0: column 'q' marks \
1 pictures with <image>, and column 'i' holds 0; mend them, or leave them out with \
on_bad_row='skip'
    """
    rows = undecoded(rows, images)
    bad = find_bad_rows(
        rows, question, answer, images, folder=folder, image_tokens=image_tokens
    )
    leave_out(bad, len(rows), on_bad_row)
    gone = {one.row for one in bad}
    if gone:
        rows = rows.select([i for i in range(len(rows)) if i not in gone])
    return prompts_of(
        rows,
        question,
        answer,
        images,
        suffix=suffix,
        folder=folder,
        image_tokens=image_tokens,
    )


def leave_out(
    bad: Sequence[BadRow], rows: int, on_bad_row: str, name: str = ""
) -> None:
    """Refuses a data set for its bad rows, or says that they are left out.

    Args:
        bad: The bad rows.
        rows: How many there are, with the bad ones.
        on_bad_row: ``"raise"`` or ``"skip"``.
        name: Of the data set, for messages.

    Raises:
        ValueError: There are bad rows and they may not be left out, or nothing else
            is there.
    """
    if on_bad_row not in ON_BAD_ROW:
        raise ValueError(f"on_bad_row must be one of {ON_BAD_ROW}, got {on_bad_row!r}")
    if not bad:
        return
    listed = "; ".join(map(str, bad[:_LISTED]))
    more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
    prefix = f"{name}: " if name else ""
    found = f"{prefix}{len(bad)} of {rows} rows"
    if on_bad_row == "skip" and len(bad) == rows:
        raise ValueError(
            f"{prefix}not one of {rows} rows can be asked or trained on: {listed}{more}"
        )
    if on_bad_row == "raise":
        raise ValueError(
            f"{found} cannot be asked or trained on: {listed}{more}; mend them, or "
            "leave them out with on_bad_row='skip'"
        )
    logger.warning("%s left out: %s%s", found, listed, more)


def prompts_of(
    rows: Dataset,
    question: str,
    answer: str,
    images: str,
    *,
    suffix: str = "",
    folder: str | Path | PictureStore | None = None,
    image_tokens: Sequence[str] = (),
) -> Dataset:
    """Rows that were checked (:func:`find_bad_rows`) as conversations, on access.

    Arguments and result are those of :func:`to_prompts`.
    """
    # So that what has no picture can be told without making conversations.
    rows = _renamed(rows, images, PICTURES)
    images = PICTURES
    reader = _reader(rows, question, answer, images, folder, image_tokens)

    def convert(batch: dict[str, list]) -> dict[str, list]:
        out: dict[str, list] = {"prompt": [], "images": [], "answer": []}
        columns = (batch[question], batch[answer], batch[images])
        for values in zip(*columns, strict=True):
            row = dict(zip((question, answer, images), values, strict=True))
            pictures = reader.pictures(row)
            text = reader.text(row)
            # A question that asks for the box itself is not told twice.
            asked = "" if BOX in text else suffix
            content = _content(text, len(pictures), asked)
            out["prompt"].append([{"role": "user", "content": content}])
            out["images"].append(pictures)
            out["answer"].append(reader.reference(row))
        return out

    return rows.with_transform(convert)


def _renamed(rows: Dataset, column: str, name: str) -> Dataset:
    """The rows with a column under another name, whatever else had it."""
    if column == name:
        return rows
    if name in rows.column_names:
        rows = rows.remove_columns(name)
    return rows.rename_column(column, name)


def _reader(rows, question, answer, images, folder, image_tokens) -> _Reader:
    feature = rows.features[answer]
    return _Reader(
        question,
        answer,
        images,
        Path(folder) if isinstance(folder, str) else folder,
        tuple(image_tokens),
        # Ids of labels are nothing that a completion could say; their names are.
        feature.names if isinstance(feature, ClassLabel) else None,
    )


def undecoded(rows: Dataset, images: str) -> Dataset:
    """The rows with pictures as they are kept: bytes and paths.

    The library's own decoding would raise in the middle of a batch, without the row.
    """
    if images not in rows.column_names:
        return rows.add_column(images, [None] * len(rows))
    feature = undecoded_feature(rows.features[images])
    return rows if feature is None else rows.cast_column(images, feature)


def undecoded_feature(feature: Any) -> Any:
    """The type of a column whose pictures are not decoded; None if it has none."""
    kept = ImageFeature(decode=False)
    if isinstance(feature, ImageFeature):
        return kept
    if isinstance(feature, List | LargeList) and isinstance(
        feature.feature, ImageFeature
    ):
        return type(feature)(kept)
    return None


def _content(text: str, images: int, suffix: str) -> list[dict[str, str]]:
    """A question's parts: images where it marks them, else all of them first."""

    def part(kind: str, words: str = "") -> dict[str, str]:
        return {"type": kind, "text": words}

    pieces = [part("text", p) for p in map(str.strip, text.split(IMAGE_MARK))]
    if len(pieces) == 1:
        pieces = [*(part("image") for _ in range(images)), *pieces]
    else:
        # A picture between each two pieces of text.
        pieces = [
            *chain.from_iterable((piece, part("image")) for piece in pieces[:-1]),
            pieces[-1],
        ]
    content = [p for p in pieces if p["type"] == "image" or p["text"]]
    if suffix:
        content.append(part("text", f"\n{suffix}"))
    return content
