"""VGPO, reproduced: visually-guided policy optimization for multimodal reasoning."""

__version__ = "0.1.0"
