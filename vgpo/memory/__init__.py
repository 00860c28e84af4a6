"""Will it fit? Bytes of a training run by item, from arithmetic alone.

::

    import vgpo

    print(vgpo.memory.estimate("7B", use_peft=True, load_in_4bit=True, card="24 GB"))

What a call really takes is counted by :func:`vgpo.models.memory.peak_bytes`.
"""

from vgpo.memory.estimating import SPARE, Estimate, estimate
from vgpo.memory.page import memory_page
from vgpo.memory.settings import CARDS, OPTIMIZERS, Settings
from vgpo.memory.shapes import Shape, shape_of

__all__ = [
    "CARDS",
    "OPTIMIZERS",
    "SPARE",
    "Estimate",
    "Settings",
    "Shape",
    "estimate",
    "memory_page",
    "shape_of",
]
