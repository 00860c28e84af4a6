"""What a user asks of a model: where it looks, token by token."""

from vgpo.analysis.forgetting import ForgettingAnalysis, analyze
from vgpo.analysis.pictured import AnsweredImages
from vgpo.analysis.scoring import TokenScores, score
from vgpo.analysis.signals import signals
from vgpo.models.inputs import prepare_inputs, token_texts
from vgpo.models.loading import load_model

__all__ = [
    "AnsweredImages",
    "ForgettingAnalysis",
    "TokenScores",
    "analyze",
    "load_model",
    "prepare_inputs",
    "score",
    "signals",
    "token_texts",
]
