"""A data set by name, as rows to train on or to evaluate with."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from datasets import Dataset

from vgpo.data.catalogue import CATALOGUE
from vgpo.data.prompts import PICTURES
from vgpo.data.questions import load_questions
from vgpo.data.splits import PROMPT_SUFFIX, TESTBED
from vgpo.testbed import make_dataset

_COMPARED_AT_ONCE = 64


def load_rows(
    dataset: str | None,
    split: str | None = None,
    *,
    question_column: str | None = None,
    answer_column: str | None = None,
    image_column: str | None = None,
    prompt_suffix: str = PROMPT_SUFFIX,
    image_tokens: Sequence[str] = (),
    on_bad_row: str = "raise",
    root: str | Path | None = None,
    testbed_size: int = 1024,
    testbed_seed: int = 0,
    testbed_family: str | None = None,
) -> Dataset:
    """A data set in TRL's format: ``prompt``, ``images`` (or ``image``), ``answer``.

    Its forms are those of :func:`vgpo.data.questions.load_questions`. Every row is
    checked here; pictures are decoded again row by row, when the trainer asks for them.

    Args:
        dataset: ``"testbed"``, a name of the catalogue such as ``"virl39k"``, a name on
            the hub, a folder (``./virl39k`` where it is called as an entry is), or a
            Parquet, JSON, JSON lines or CSV file. Paths of pictures in a file begin at
            its folder.
        split: Its split, by default ``"train"``, or what the catalogue says. A file has
            one, ``"train"``; parts of it are ``"train[:90%]"``, ``"train[90%:]"``.
        question_column: Column of the question, which may hold ``<image>``; by default
            it is looked for (:data:`vgpo.data.forms.KNOWN`), and so is a conversation.
        answer_column: Column of the reference answer; likewise.
        image_column: Column of the picture or the list of pictures; likewise, and a
            data set without it has none.
        prompt_suffix: Put after each question; not on the testbed, whose model was not
            taught it, and by default not after rows that are prompts already.
        image_tokens: Text that the model's tokenizer would take for a picture.
        on_bad_row: ``"raise"`` or ``"skip"``.
        root: Folder with copies of the catalogue's repositories, each under its id.
        testbed_size: Questions of the testbed.
        testbed_seed: Names their sequence.
        testbed_family: Ask this family only.

    Raises:
        ValueError: No data set named, not found, no such split, no such columns, or
            rows that cannot be trained on.

    Example:
        >>> load_rows("testbed", testbed_size=2).column_names
        ['prompt', 'image', 'answer']
    """
    if dataset is None:
        raise ValueError(
            "dataset is missing: name one of the catalogue or on the hub, a folder, a "
            f"file, or {TESTBED!r}"
        )
    if not isinstance(dataset, str):
        raise ValueError(
            f"dataset must be a name or a path, got {dataset!r} "
            f"({type(dataset).__name__})"
        )
    if dataset == TESTBED:
        return make_dataset(
            testbed_size,
            seed=testbed_seed,
            split="train" if split is None else split,
            family=testbed_family,
        ).select_columns(["prompt", "image", "answer"])
    named = {
        "question": question_column,
        "answer": answer_column,
        "images": image_column,
    }
    return load_questions(
        dataset,
        split_or_default(dataset, split),
        name=f"dataset: {dataset!r}",
        columns={what: name for what, name in named.items() if name is not None},
        # Rows that are prompts already get what was asked for, and no default.
        suffix=None if prompt_suffix == PROMPT_SUFFIX else prompt_suffix,
        image_tokens=image_tokens,
        root=root,
        on_bad_row=on_bad_row,
    ).rows


def split_or_default(
    dataset: str | None, split: str | None, default: str = "train"
) -> str:
    """The split that is meant where none is named.

    Example:
        >>> split_or_default("mathvista", None), split_or_default("a.jsonl", None)
        ('AI4Math_MathVista', 'train')
    """
    if split is not None:
        return split
    return CATALOGUE[dataset].split if dataset in CATALOGUE else default


def shared_rows(rows: Dataset, others: Dataset) -> int:
    """How many of ``rows`` are among the ``others``.

    Where both have a column ``problem``, as :func:`load_rows` calls the question, rows
    are told apart by it, by ``answer`` and by their pictures, as these are kept: by
    their bytes, or else by their paths. Else by all columns.

    Args:
        rows: From :func:`load_rows`.
        others: The same.

    Example:
        >>> some = load_rows("testbed", testbed_size=4)
        >>> shared_rows(some.select([0, 1]), some.select([1, 2]))
        1
    """
    names = {"problem", "answer", PICTURES}
    told_by = [
        frozenset(names & set(one.column_names))
        if "problem" in one.column_names
        else frozenset(one.column_names)
        for one in (rows, others)
    ]
    if told_by[0] != told_by[1]:
        return 0
    columns = sorted(told_by[0])
    known = set(_fingerprints(others, columns))
    return sum(one in known for one in _fingerprints(rows, columns))


def _fingerprints(rows: Dataset, columns: list[str]) -> Iterator[bytes]:
    plain = rows.select_columns(columns).with_format("arrow")
    for start in range(0, len(rows), _COMPARED_AT_ONCE):
        for row in plain[start : start + _COMPARED_AT_ONCE].to_pylist():
            yield blake2b(repr(row).encode()).digest()
