"""The calculator as a view to touch."""

from dataclasses import asdict
from typing import Any

from vgpo.explorer.memory import memory_view
from vgpo.explorer.page import View
from vgpo.memory.estimating import SPARE, estimate
from vgpo.memory.items import VLLM_BESIDES
from vgpo.memory.settings import CARDS, OPTIMIZERS, Settings
from vgpo.memory.shapes import Shape, shape_of
from vgpo.models.weights import SIZES


def memory_page(*models: Any, settings: Settings | None = None) -> View:
    """Sliders for :func:`~vgpo.memory.estimating.estimate`, computed in the page.

    Args:
        *models: What ``estimate`` takes; by default the published sizes, 7B first.
        settings: Where the sliders start; by default QLoRA on a card of 24 GB.

    Returns:
        The value of a notebook's cell, or ``.save(path)``.

    Example:
        >>> memory_page("3B")
        View('Will it fit?')
    """
    chosen = models or ("7B", *(size for size in SIZES if size != "7B"))
    settings = settings or Settings(use_peft=True, load_in_4bit=True, card="24 GB")
    shapes = [m if isinstance(m, Shape) else shape_of(m) for m in chosen]
    return memory_view(
        [asdict(shape) for shape in shapes],
        asdict(settings),
        cards=CARDS,
        optimizers=OPTIMIZERS,
        spare=SPARE,
        vllm_besides=VLLM_BESIDES,
        still=str(estimate(shapes[0], settings)),
    )
