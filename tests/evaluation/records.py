"""Runs made of verdicts, without a model."""

from vgpo.evaluation import EvaluatedRun
from vgpo.evaluation.runs import GREEDY

DECODING = {"greedy": True, "samples": 0}


def record(number, greedy=None, samples=(), name="a", picture=None, **answer):
    """One question; ``greedy`` and ``samples`` are verdicts."""
    verdicts = [] if greedy is None else [(GREEDY, greedy)]
    verdicts += list(enumerate(samples))
    shown = [] if picture is None else [{"id": picture, "width": 28, "height": 28}]
    return {
        "set": name,
        "row": number,
        "question_id": f"q{number}",
        "question": f"<image>Question {number} ?",
        "reference": str(number),
        "pictures": shown,
        "view": "none",
        "answers": [
            {
                "sample": sample,
                "text": f"\\boxed{{{number}}}",
                "tokens": 3,
                "finish": "stop",
                "extracted": str(number),
                "accuracy": bool(right),
                "recipe": bool(right),
                **answer,
            }
            for sample, right in verdicts
        ],
    }


def run(records, name="model", **settings):
    """A run of these records."""
    sets = {one["set"]: 0 for one in records}
    return EvaluatedRun(
        {"name": name, "decoding": DECODING, "view": "none", "sets": sets, **settings},
        list(records),
    )
