"""What a user asks of a model: where it looks, token by token."""

from vgpo.analysis.forgetting import (
    AnsweredImages,
    ForgettingAnalysis,
    analyze,
    load_model,
)
from vgpo.analysis.scoring import TokenScores, prepare_inputs, score, token_texts

__all__ = [
    "AnsweredImages",
    "ForgettingAnalysis",
    "TokenScores",
    "analyze",
    "load_model",
    "prepare_inputs",
    "score",
    "token_texts",
]
