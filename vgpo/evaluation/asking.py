"""``vgpo.evaluate``: a model is asked sets of questions, and all of it is kept."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm
from transformers import ProcessorMixin

from vgpo.data.prompts import BadRow, picture_tokens
from vgpo.data.questions import Questions
from vgpo.evaluation.batches import batches_by_length
from vgpo.evaluation.decoding import (
    Backend,
    Decoding,
    Prompt,
    Transformers,
    require_whole,
    seed_of,
)
from vgpo.evaluation.grading import grade, recipe_is_there
from vgpo.evaluation.runs import (
    GREEDY,
    LEFT_OUT,
    PICTURES,
    RECORDS,
    SETTINGS,
    EvaluatedRun,
    load_run,
)
from vgpo.evaluation.sets import Surveyed, gather, survey, text_of
from vgpo.evaluation.views import VIEWS, View, degrade, partners
from vgpo.files import append_json_line, write_atomically
from vgpo.models.fingerprints import model_fingerprint
from vgpo.models.handle import resolve
from vgpo.seeds import mixed_seed
from vgpo.versions import installed_versions

THUMBNAIL = 320
"""Longer side of the pictures that are kept with a run."""

_LIBRARIES = ("vgpo", "torch", "datasets", "math-verify", "mathruler")
_MUST_MATCH = (
    *("model", "decoding", "suffix", "view", "pixels", "sets", "batch_size"),
    "max_prompt_tokens",
)


def evaluate(
    model,
    processor: ProcessorMixin,
    dataset: Any,
    *,
    out: str | Path | None = None,
    name: str | None = None,
    greedy: bool = True,
    samples: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 2048,
    max_prompt_tokens: int = 4096,
    seed: int = 0,
    suffix: str | None = None,
    split: str | None = None,
    root: str | Path | None = None,
    limit: int | None = None,
    view: View = "none",
    batch_size: int = 8,
    backend: Backend | None = None,
    progress: bool = True,
) -> EvaluatedRun:
    """Asks a model sets of questions and grades what it answers, question by question.

    Prompts are those of training: the question with its pictures, then the demand for
    an answer in ``\\boxed{}``. Pictures go through the processor as it is, so load it
    with the limits of pixels that the training had; they are written down.

    A run that was stopped goes on where it was, with the same folder and settings.
    Questions are answered in batches of similar length, and each batch of samples has a
    seed of its own, so the answers are those of a run that was never stopped.

    Args:
        model: A vision-language model, with adapters or without.
        processor: Its processor.
        dataset: What :func:`vgpo.data.questions.load_questions` takes, its result, the
            name of a suite (``paper``, ``math``, ``vision``), or a dictionary or list
            of these.
        out: The run's folder; by default a temporary one.
        name: Of the model, in tables; by default its own.
        greedy: One greedy answer each.
        samples: Sampled answers each.
        temperature: Of the samples.
        top_p: Of the samples.
        max_new_tokens: Longer answers are cut off and counted as such.
        max_prompt_tokens: Questions with longer prompts are left out and listed.
        seed: Of samples and of degraded views.
        suffix: Put after each question; by default the one of training.
        split: Of a data set that has several.
        root: Folder with copies of the catalogue's repositories.
        limit: The first questions of each set alone.
        view: How pictures are degraded (:data:`vgpo.evaluation.views.View`).
        batch_size: Questions answered at once.
        backend: By default the model's own ``generate``.
        progress: Whether a bar shows rate and time left.

    Returns:
        The run.

    Raises:
        ValueError: A setting is out of range; a set cannot be loaded; or the folder
            holds a run with other settings, which are named.

    Example:
        >>> from vgpo.testbed import load_tiny
        >>> from vgpo.testbed.decoding import decode_faster
        >>> model, processor = load_tiny()
        >>> run = evaluate(decode_faster(model), processor, "testbed", limit=2,
        ...                max_new_tokens=64, progress=False)
        >>> len(run.records)
        2
    """
    decoding = Decoding(greedy, samples, temperature, top_p, max_new_tokens, seed)
    # Before there is a folder, which would be one of a run with these settings.
    require_whole("batch_size", batch_size, 1)
    require_whole("max_prompt_tokens", max_prompt_tokens, 1)
    if view not in VIEWS:
        raise ValueError(f"view must be one of {VIEWS}, got {view!r}")
    how = {"split": split, "suffix": suffix, "root": root, "limit": limit}
    sets = gather(dataset, how)
    backend = Transformers(model, processor) if backend is None else backend
    handle = resolve(model) if model is not None else None
    marks = (
        [processor.image_token]  # of vLLM's models, which Qwen's and others name it
        if handle is None
        else picture_tokens(handle.model.config, processor)
    )
    settings = {
        "name": name or _name_of(model),
        "versions": installed_versions(_LIBRARIES),
        "backend": backend.describe(),
        "model": model_fingerprint(handle) if handle is not None else name,
        "decoding": decoding.as_dict(),
        "suffix": {one.name: one.suffix for one in sets},
        "max_prompt_tokens": max_prompt_tokens,
        "pixels": _pixel_limits(processor),
        "view": view,
        "batch_size": batch_size,
        "recipe_grader": recipe_is_there(),
        "sets": {one.name: len(one) for one in sets},
    }
    folder = Path(tempfile.mkdtemp(prefix="vgpo-run-") if out is None else out)
    run = _begin(folder, settings)
    done = {(record["set"], record["question_id"]) for record in run.records}
    known = {(one["set"], one["row"]) for one in run.left_out}
    total = sum(len(one) for one in sets)
    with tqdm(
        total=total, desc=view_name(settings), disable=None if progress else True
    ) as bar:
        for questions in sets:
            asking = _Asking(
                questions, backend, decoding, view, folder, max_prompt_tokens, marks
            )
            asking.refuse_other_questions(run)
            asking.leave_out(questions.left_out, known)
            asking.ask(batch_size, done, known, bar)
    return load_run(folder)


def view_name(settings: Mapping[str, Any]) -> str:
    """Of a run, for its progress bar."""
    view = settings["view"]
    return str(settings["name"]) + ("" if view == "none" else f", {view}")


class _Asking:
    """One set, asked batch by batch."""

    def __init__(
        self, questions, backend, decoding, view, folder, longest, marks
    ) -> None:
        self.questions: Questions = questions
        self.backend: Backend = backend
        self.decoding: Decoding = decoding
        self.view: View = view
        self.folder: Path = folder
        self.longest: int = longest
        self.marks: Sequence[str] = marks
        self.surveyed = survey(questions)
        self.partners = partners([one.ids for one in self.surveyed], decoding.seed)

    def refuse_other_questions(self, run: EvaluatedRun) -> None:
        """Of a set whose rows have changed, old answers would count beside new ones.

        Raises:
            ValueError: The run has answers to questions that the set has not.
        """
        mine = {one.question_id for one in self.surveyed}
        answered = {
            record["question_id"]
            for record in run.records
            if record["set"] == self.questions.name
        }
        if gone := answered - mine:
            raise ValueError(
                f"out: {self.folder} has answers to {len(gone)} questions that "
                f"{self.questions.name} does not have now, its rows have changed; name "
                "another folder"
            )

    def leave_out(self, rows, known: set[tuple[str, int]]) -> None:
        for one in rows:
            if (self.questions.name, one.row) not in known:
                known.add((self.questions.name, one.row))
                append_json_line(
                    self.folder / LEFT_OUT,
                    {
                        "set": self.questions.name,
                        "row": one.row,
                        "reason": one.reason,
                    },
                )

    def ask(self, batch_size: int, done: set, known: set, bar: tqdm) -> None:
        name = self.questions.name
        batches = batches_by_length(
            [one.length for one in self.surveyed],
            batch_size,
            [bool(one.pictures) for one in self.surveyed],
        )
        for number, places in enumerate(batches):
            mine = [self.surveyed[place] for place in places]
            left = [one for one in mine if (name, one.question_id) not in done]
            left = [one for one in left if (name, self._row(one.place)) not in known]
            if left:
                # The whole batch again: samples depend on who is beside them.
                for record in self._answered(number, mine, known):
                    if (name, record["question_id"]) not in done:
                        append_json_line(self.folder / RECORDS, record)
            bar.update(len(mine))

    def _row(self, place: int) -> int:
        return self.questions.numbers[place]

    def _answered(
        self, number: int, mine: Sequence[Surveyed], known: set
    ) -> list[dict[str, Any]]:
        asked, prompts, sizes = [], [], []
        for one in mine:
            prompt = self._prompt(one)
            said = "" if prompt is None else text_of(prompt.messages)
            mark = next((mark for mark in self.marks if mark in said), None)
            size = reason = None
            if prompt is not None and mark is None:
                size = self.backend.prompt_tokens(prompt)
            if prompt is None:
                reason = "there is no other picture to swap with"
            elif mark is not None:
                reason = (
                    f"its question holds the model's own image token {mark!r} as text; "
                    "write <image> where a picture belongs"
                )
            elif size is not None and size[0] > self.longest:
                reason = (
                    f"its prompt of {size[0]} tokens is longer than max_prompt_tokens "
                    f"({self.longest}); raise that, or lower max_pixels"
                )
            if reason is not None:
                self.leave_out([BadRow(self._row(one.place), reason)], known)
                continue
            asked.append(one)
            prompts.append(prompt)
            sizes.append(size)
        if not asked:
            return []
        answers: list[list[tuple[int, Any]]] = [[] for _ in asked]
        for sample in self._samples():
            seed = None if sample == GREEDY else seed_of(self.decoding, number, sample)
            for mine_, answer in zip(
                answers, self.backend.answer(prompts, self.decoding, seed), strict=True
            ):
                mine_.append((sample, answer))
        return [
            self._record(one, prompt, size, given)
            for one, prompt, size, given in zip(
                asked, prompts, sizes, answers, strict=True
            )
        ]

    def _samples(self) -> list[int]:
        first = [GREEDY] if self.decoding.greedy else []
        return [*first, *range(self.decoding.samples)]

    def _prompt(self, one: Surveyed) -> Prompt | None:
        row = self.questions.rows[one.place]
        pictures = row["images"]
        self._keep(one, pictures)
        if self.view == "swapped" and pictures:
            partner = self.partners[one.place]
            if partner is None:
                return None
            pictures = self.questions.rows[partner]["images"]
        elif self.view != "none":
            pictures = [
                degrade(
                    self.view, picture, mixed_seed(self.decoding.seed, one.place, n)
                )
                for n, picture in enumerate(pictures)
            ]
        return Prompt(row["prompt"], tuple(pictures))

    def _keep(self, one: Surveyed, pictures: Sequence[Image.Image]) -> None:
        """Small copies, so that a run can be looked at without its data."""
        for known, picture in zip(one.pictures, pictures, strict=True):
            path = self.folder / PICTURES / f"{known['id']}.png"
            if not path.is_file():
                small = picture.copy()
                small.thumbnail((THUMBNAIL, THUMBNAIL))
                write_atomically(path, lambda where, s=small: s.save(where, "png"))

    def _record(self, one: Surveyed, prompt, size, given) -> dict[str, Any]:
        row = self.questions.rows[one.place]
        verdicts = grade(
            [answer.text for _, answer in given], [row["answer"]] * len(given)
        )
        return {
            "set": self.questions.name,
            "row": self._row(one.place),
            "question_id": one.question_id,
            "question": text_of(prompt.messages),
            "reference": row["answer"],
            "pictures": list(one.pictures),
            "pixels": sum(p.width * p.height for p in prompt.pictures),
            "prompt_tokens": size[0],
            "image_tokens": size[1],
            "view": self.view,
            "answers": [
                {
                    "sample": sample,
                    "text": answer.text,
                    "tokens": answer.tokens,
                    "finish": answer.finish,
                    "extracted": verdict.extracted,
                    "accuracy": verdict.accuracy,
                    "recipe": verdict.recipe,
                }
                for (sample, answer), verdict in zip(given, verdicts, strict=True)
            ],
        }


def _begin(folder: Path, settings: dict[str, Any]) -> EvaluatedRun:
    """The run of a folder as far as it is, a new one if there is none."""
    path = folder / SETTINGS
    if not path.is_file():
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"out: {folder} is a file; name a folder for the run")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"out: {folder} cannot be made ({error.strerror}); name another folder"
            ) from error
        return _write_settings(folder, settings)
    run = load_run(folder)
    if not run.records and not run.left_out:
        return _write_settings(folder, settings)  # stopped before the first answer
    other = [
        name
        for name in _MUST_MATCH
        if run.settings.get(name) != json.loads(json.dumps(settings[name]))
    ]
    if run.settings["backend"]["name"] != settings["backend"]["name"]:
        other.append("backend")
    if other:
        raise ValueError(
            f"out: {folder} holds a run with other {', '.join(other)}; name another "
            "folder, or ask as that run did"
        )
    return run


def _write_settings(folder: Path, settings: dict[str, Any]) -> EvaluatedRun:
    write_atomically(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
    return load_run(folder)


def _pixel_limits(processor: ProcessorMixin) -> dict[str, Any]:
    """What the processor's picture part says of sizes."""
    settings = processor.image_processor.to_dict()
    wanted = ("size", "min_pixels", "max_pixels", "patch_size", "merge_size")
    found = {name: settings[name] for name in wanted if settings.get(name) is not None}
    return json.loads(json.dumps(found, default=str))


def _name_of(model) -> str:
    name = "" if model is None else str(resolve(model).model.name_or_path)
    return Path(name).name or "model"
