"""VGPO, put to the test: visually-guided policy optimization for multimodal reasoning.

Names are loaded on first use, so that the mathematics alone needs torch and
nothing else, and ``import vgpo`` costs nothing.
"""

from importlib import import_module

from vgpo.lazy import training_libraries

__version__ = "0.1.0"

_HOME = {
    "visual_prototype": "vgpo.method.focus",
    "visual_focus_score": "vgpo.method.focus",
    "completion_states": "vgpo.method.focus",
    "compensation_schedule": "vgpo.method.compensation",
    "visual_gate": "vgpo.method.compensation",
    "compensate": "vgpo.method.compensation",
    "intra_trajectory_weights": "vgpo.method.reweighting",
    "inter_trajectory_weights": "vgpo.method.reweighting",
    "reweight_advantages": "vgpo.method.reweighting",
    "capture_focus": "vgpo.models.capture",
    "attention_split": "vgpo.models.attention",
    "analyze": "vgpo.analysis.forgetting",
    "score": "vgpo.analysis.scoring",
    "signals": "vgpo.analysis.signals",
    "evaluate": "vgpo.evaluation.asking",
    "VGPOConfig": "vgpo.training.config",
    "VGPOTrainer": "vgpo.training.trainer",
}

_MODULES = {
    "released": "vgpo.method.released",
    **{
        name: f"vgpo.{name}"
        for name in (
            "analysis",
            "data",
            "evaluation",
            "explorer",
            "figures",
            "memory",
            "method",
            "models",
            "pictures",
            "publish",
            "rewards",
            "stats",
            "studies",
            "testbed",
            "texts",
            "train",
            "training",
        )
    },
}

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str):
    if name not in _HOME and name not in _MODULES:
        raise AttributeError(f"module 'vgpo' has no attribute {name!r}")
    with training_libraries(f"vgpo.{name}"):
        module = import_module((_HOME | _MODULES)[name])
    return module if name in _MODULES else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
