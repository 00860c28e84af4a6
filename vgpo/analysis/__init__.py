"""What a user asks of a model: where it looks, token by token."""

from typing import TYPE_CHECKING

from vgpo.analysis.forgetting import analyze
from vgpo.analysis.forgetting_analysis import ForgettingAnalysis
from vgpo.analysis.pictured import AnsweredImages
from vgpo.analysis.scoring import TokenScores, score
from vgpo.analysis.signals import signals
from vgpo.lazy import parts_of
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

if not TYPE_CHECKING:  # a checker knows modules by their imports
    __getattr__ = parts_of(__name__)
