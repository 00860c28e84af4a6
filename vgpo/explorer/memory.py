"""Will a run fit? Its settings to move, and bytes by item."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from vgpo.explorer.page import View


def memory_view(
    shapes: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    *,
    cards: Mapping[str, int],
    optimizers: Sequence[str],
    spare: float,
    vllm_besides: int,
    still: str = "",
    title: str = "Will it fit?",
) -> View:
    """Sliders and a bar: what training takes on a card, by the formulas in the page.

    :func:`vgpo.memory.page.memory_page` fills in the arguments from the calculator.

    Args:
        shapes: Of models, as dictionaries; the first is shown first.
        settings: Where the controls start.
        cards: Bytes of each card, by name.
        optimizers: Names that can be chosen.
        spare: Share of a card to leave free.
        vllm_besides: Bytes of vLLM beside weights and cache.
        still: Text to show where no script runs.
        title: Of the view.

    Raises:
        ValueError: There is no shape.
    """
    if not shapes:
        raise ValueError("shapes: need one at least")
    return View(
        title,
        f"<pre>{html.escape(still)}</pre>",
        start="memoryView",
        data={
            "shapes": [dict(shape) for shape in shapes],
            "settings": dict(settings),
            "cards": dict(cards),
            "optimizers": list(optimizers),
            "spare": spare,
            "vllm_besides": vllm_besides,
        },
        scripts=("memory.js",),
        styles=("memory.css",),
        text=still,
    )
