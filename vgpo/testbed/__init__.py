"""Two small worlds with known truth: pictures, questions, and a tiny Qwen2.5-VL.

No weights and no data set need to be downloaded. The architecture is real
(``Qwen2_5_VLForConditionalGeneration``), the pixels are real, and of every token
of every completion it is known whether it reads the image, and where.
"""

from typing import TYPE_CHECKING

from vgpo.lazy import parts_of
from vgpo.testbed.data import make_dataset, messages
from vgpo.testbed.images import COLOURS, draw_bars, draw_grid
from vgpo.testbed.look_away import WORLDS, LookAwayExample, LookAwayWorld
from vgpo.testbed.model import (
    CHECKPOINT,
    CHECKPOINTS,
    build_tiny,
    load_tiny,
    tiny_config,
)
from vgpo.testbed.processor import TestbedProcessor, build_processor, build_tokenizer
from vgpo.testbed.questions import (
    FAMILIES,
    IMAGE_FAMILIES,
    Example,
    SourcedToken,
    World,
    trace,
)

__all__ = [
    "CHECKPOINT",
    "CHECKPOINTS",
    "COLOURS",
    "FAMILIES",
    "IMAGE_FAMILIES",
    "WORLDS",
    "Example",
    "LookAwayExample",
    "LookAwayWorld",
    "SourcedToken",
    "TestbedProcessor",
    "World",
    "build_processor",
    "build_tiny",
    "build_tokenizer",
    "draw_bars",
    "draw_grid",
    "load_tiny",
    "make_dataset",
    "messages",
    "tiny_config",
    "trace",
]

if not TYPE_CHECKING:  # a checker knows modules by their imports
    __getattr__ = parts_of(__name__)
