"""Controls of an analysis: what the same numbers are where nothing is known.

Attention that spreads evenly over a growing context falls on the image less and less,
faster in long answers; and wrong answers tend to be long. So a network that was never
trained shows a falling share of the image, and a difference of right and wrong
answers, too. What a trained one does is to be read beside it.
"""

from torch import nn
from transformers import PreTrainedModel

from vgpo.models.handle import resolve
from vgpo.seeds import seeded


def untrained_copy(model: nn.Module, seed: int = 0) -> PreTrainedModel:
    """A network of the same shape whose weights were never trained.

    Args:
        model: A vision-language model, wrapped or not. Adapters and quantisation are
            left out: the copy is the plain model of its configuration.
        seed: Of the weights; the global generator is left as it was.

    Returns:
        In evaluation mode, on the model's device, in the type of its floating-point
        weights. As large as the model itself.

    Example:
        >>> from vgpo.testbed import load_tiny
        >>> model, _ = load_tiny()
        >>> copy = untrained_copy(model)
        >>> type(copy) is type(model), copy.num_parameters() == model.num_parameters()
        (True, True)
    """
    outer = resolve(model).model
    with seeded(seed):
        copy = type(outer)(outer.config)
    kept = next(p for p in outer.parameters() if p.is_floating_point())
    return copy.to(device=kept.device, dtype=kept.dtype).eval()
