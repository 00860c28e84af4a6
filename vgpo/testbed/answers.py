"""Lets a model answer questions of the small world, and grades the answers."""

from collections import Counter
from collections.abc import Sequence

import torch

from vgpo.rewards import last_boxed
from vgpo.seeds import seeded
from vgpo.testbed.data import encode_prompts
from vgpo.testbed.questions import Example


def answer(
    model,
    processor,
    examples: Sequence[Example],
    temperature: float = 0.0,
    seed: int = 0,
    max_new_tokens: int = 192,
    batch_size: int = 64,
    prefixes: Sequence[str] | None = None,
) -> list[str]:
    """The model's completions, one per example, as text.

    Args:
        model: A vision-language model that generates.
        processor: Its processor.
        examples: What is asked.
        temperature: 0 decodes greedily; 1 samples from the model's distribution.
        seed: Seed of the sampling; the global generator is left as it was.
        max_new_tokens: Longer completions are cut off.
        batch_size: Examples answered at once; samples depend on it.
        prefixes: How each completion begins; the model goes on from there.

    Raises:
        ValueError: negative ``temperature``.
    """
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    how = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        if temperature
        else {"do_sample": False}
    )
    texts: list[str] = []
    was_training = model.training
    model.eval()
    with seeded(seed, model.device), torch.no_grad():
        for start in range(0, len(examples), batch_size):
            some = slice(start, start + batch_size)
            begun = None if prefixes is None else prefixes[some]
            batch = encode_prompts(processor, examples[some], begun, model.device)
            out = model.generate(**batch, max_new_tokens=max_new_tokens, **how)
            texts += processor.batch_decode(
                out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
            )
    model.train(was_training)
    if prefixes is not None:
        texts = [begun + rest for begun, rest in zip(prefixes, texts, strict=True)]
    return texts


def correct(completion: str, example: Example) -> bool:
    r"""Whether the last ``\boxed{}`` of a completion is exactly the true answer."""
    return last_boxed(completion) == example.answer


def accuracy(completions: Sequence[str], examples: Sequence[Example]) -> float:
    """Share of completions whose boxed answer is the true one."""
    hits = [correct(c, e) for c, e in zip(completions, examples, strict=True)]
    return sum(hits) / len(hits)


def _asked(example: Example) -> list[str]:
    """The words of a question without what it gives."""
    return example.question.split(":")[-1].split()


def _form(example: Example) -> tuple:
    """What a reader knows of a question without seeing the picture's content."""
    words = _asked(example)
    asked = words[1] if example.family == "count" else len(words)
    return (example.family, example.rows, example.columns, asked)


def _without_name(example: Example) -> str:
    """The answer; for a colour, its place among the colours asked for."""
    words = _asked(example)
    if example.family == "compare":
        return str(words.index(example.answer))
    return example.answer


def blind_accuracy(seen: Sequence[Example], asked: Sequence[Example]) -> float:
    """Accuracy of the best guesser who never looks: the chance level.

    He answers each form of question (family, size of the picture, length of the
    question) with what was most often right among ``seen``; of colours, he picks
    by place in the question.
    """
    answers: dict[tuple, Counter] = {}
    for example in seen:
        answers.setdefault(_form(example), Counter())[_without_name(example)] += 1
    hits = 0
    for example in asked:
        known = answers.get(_form(example))
        if known is not None:
            hits += known.most_common(1)[0][0] == _without_name(example)
    return hits / len(asked)
