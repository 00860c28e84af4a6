"""Visual focus: how close each generated token is to the image (Eq. 3-4).

Source: Visually-Guided Policy Optimization for Multimodal Reasoning,
arXiv 2604.09349. Nothing here carries a gradient; the paper's weights do not.
Arithmetic is float32 for float16, bfloat16 and float32 input, also under
autocast, and float64 for float64 input. On CUDA, float32 input is multiplied with
TF32 if ``torch.backends.cuda.matmul`` allows it.
"""

import logging
import math

import torch
from torch import Tensor

from vgpo.method._masked import check_alignment, check_mask, check_tensor

logger = logging.getLogger(__name__)

# Float32 elements converted at a time on a CPU, per thread: 0.7 MB, so that a block
# is still in the cache when it is multiplied. A float32 copy of all states would
# take longer to write than everything else together.
_BLOCK_ELEMENTS = 172_032


@torch.no_grad()
def visual_prototype(
    hidden_states: Tensor, image_mask: Tensor, *, nonfinite: str = "raise"
) -> Tensor:
    r"""Visual prototype, the mean state of the image tokens (Eq. 3).

    .. math:: \mu_v = \frac{1}{|V|} \sum_{j \in V} h_j

    Several images of one row are pooled together, token by token.

    Args:
        hidden_states: Last-layer states after the final norm, (B, L, D) floating.
        image_mask: bool or 0/1, (B, L), True on image tokens. States elsewhere
            have no influence, whatever they hold.
        nonfinite: What NaN or infinity at an image token does: ``"raise"``, or
            ``"neutral"`` to log a warning and treat the row as one without image.

    Returns:
        (B, D) float32 without gradient. A row without image tokens has the zero
        vector, which :func:`visual_focus_score` takes as "no image".

    Raises:
        ValueError: A shape or dtype does not fit, or a state is NaN or infinite.

    Example:
        >>> import torch
        >>> states = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])
        >>> visual_prototype(states, torch.tensor([[True, True, False]]))
        tensor([[0.5000, 0.5000]])
    """
    _check_nonfinite(nonfinite)
    states = _check_states(hidden_states)
    mask = check_mask(
        image_mask, "image_mask", tuple(states.shape[:2]), "hidden_states"
    )
    with torch.autocast(states.device.type, enabled=False):
        total = _masked_total(states, mask)
        if not math.isfinite(total.sum()):
            # NaN outside the mask reaches the product as 0 * NaN. A cleaned copy
            # tells such rows from those whose image is at fault.
            total = _masked_total(torch.where(mask[..., None], states, 0), mask)
            fault = ~total.isfinite().all(dim=1)
            if fault.any():
                _report_nonfinite(fault, "hidden_states", nonfinite)
                total[fault] = 0
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


@torch.no_grad()
def visual_cosine(
    hidden_states: Tensor,
    prototype: Tensor,
    *,
    completion_mask: Tensor | None = None,
    nonfinite: str = "raise",
) -> Tensor:
    r"""Cosine of every token's state to the visual prototype, in [-1, 1].

    The arguments are those of :func:`visual_focus_score`, which maps this to
    [0, 1].

    Returns:
        (B, T) float32 without gradient; 0 for a zero state, for a row without
        image, outside ``completion_mask`` and in a row that ``"neutral"`` gave up.

    Raises:
        ValueError: As :func:`visual_focus_score`.

    Example:
        >>> import torch
        >>> states = torch.tensor([[[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]])
        >>> visual_cosine(states, torch.tensor([[1.0, 0.0]]))
        tensor([[ 1.,  0., -1.]])
    """
    cosine, counted = _cosine(hidden_states, prototype, completion_mask, nonfinite)
    return torch.where(counted, cosine, 0)


@torch.no_grad()
def visual_focus_score(
    hidden_states: Tensor,
    prototype: Tensor,
    *,
    completion_mask: Tensor | None = None,
    nonfinite: str = "raise",
) -> Tensor:
    r"""Visual focus score of every token (Eq. 4).

    .. math:: \rho_{i,t} = \frac{\cos(h_{i,t}, \mu_v) + 1}{2}

    Components should lie between about 1e-15 and 1e15 in size, as those of any
    final norm do: beyond, their squares leave the range of float32.

    Args:
        hidden_states: States of the completion tokens, (B, T, D) floating; see
            :func:`completion_states`.
        prototype: Visual prototypes, (B, D); a zero row means "no image".
        completion_mask: Optional bool or 0/1, (B, T), True on real tokens. Tokens
            outside it score 0 and may hold anything. Without it every token
            counts as real.
        nonfinite: What NaN or infinity at a real token does: ``"raise"``, or
            ``"neutral"`` to log a warning and treat the row as one without image,
            so that its advantage is left as it is.

    Returns:
        (B, T) float32 in [0, 1] without gradient. A zero state scores 0.5. A row
        without image scores 0 throughout: its compensated weights are then 0,
        its factors 1, and it is left out of its group's statistics.

    Raises:
        ValueError: A shape or dtype does not fit, or a value is NaN or infinite.

    Example:
        >>> import torch
        >>> states = torch.tensor([[[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]])
        >>> visual_focus_score(states, torch.tensor([[1.0, 0.0]]))
        tensor([[1.0000, 0.5000, 0.0000]])
    """
    cosine, counted = _cosine(hidden_states, prototype, completion_mask, nonfinite)
    return torch.where(counted, (cosine + 1) / 2, 0)


@torch.no_grad()
def completion_states(
    hidden_states: Tensor, completion_length: int, alignment: str = "token"
) -> Tensor:
    """The states that stand for the tokens of a completion.

    The completion is the last ``completion_length`` positions of each row.

    Args:
        hidden_states: States of prompt and completion, (B, L, D).
        completion_length: T, padding included.
        alignment: ``"token"`` takes the state at each token's own position, after
            the model has read it, as the released code does. ``"prediction"``
            takes the state one position before, which produced the token's
            log-probability. The paper's :math:`h_{i,t}` can be read either way.

    Returns:
        (B, T, D) in the dtype of ``hidden_states``, a view without gradient.

    Raises:
        ValueError: Unknown alignment, or a completion that does not fit.

    Example:
        >>> import torch
        >>> states = torch.arange(5.0).reshape(1, 5, 1)
        >>> completion_states(states, 2).flatten().tolist()
        [3.0, 4.0]
        >>> completion_states(states, 2, alignment="prediction").flatten().tolist()
        [2.0, 3.0]
    """
    check_tensor(hidden_states, "hidden_states")
    if hidden_states.ndim != 3:
        raise ValueError(
            "hidden_states: must have shape (B, L, D), got "
            f"{tuple(hidden_states.shape)}."
        )
    check_alignment(alignment)
    end = hidden_states.shape[1] - (alignment == "prediction")
    if not 1 <= completion_length <= end:
        raise ValueError(
            f"completion_length: must be from 1 to {end} for {alignment!r} alignment "
            f"in rows of {hidden_states.shape[1]} positions, got {completion_length}."
        )
    return hidden_states.detach()[:, end - completion_length : end]


def _cosine(
    hidden_states: Tensor,
    prototype: Tensor,
    completion_mask: Tensor | None,
    nonfinite: str,
) -> tuple[Tensor, Tensor]:
    """Cosines (B, T), and which tokens count: real, in a finite row with an image.

    The latter is (B, T), or (B, 1) where it is the same for all tokens of a row.
    """
    _check_nonfinite(nonfinite)
    states = _check_states(hidden_states)
    rows, tokens, width = states.shape
    check_tensor(prototype, "prototype")
    if tuple(prototype.shape) != (rows, width):
        raise ValueError(
            f"prototype: shape {tuple(prototype.shape)} does not match hidden_states "
            f"{tuple(states.shape)}, which needs {(rows, width)}."
        )
    real = None
    if completion_mask is not None:
        real = check_mask(
            completion_mask, "completion_mask", (rows, tokens), "hidden_states"
        )

    vector = prototype.detach().to(torch.promote_types(states.dtype, torch.float32))
    # Scaled by its largest component first, so that no square leaves the range. Only
    # its direction counts, so it becomes a unit vector here and h . v / |h| is the
    # cosine: one division a token less.
    largest = vector.abs().amax(dim=1, keepdim=True)
    has_image = largest > 0
    vector = vector / torch.where(has_image, largest, 1)
    length = torch.linalg.vector_norm(vector, dim=1, keepdim=True)
    vector = vector / torch.where(has_image, length, 1)

    with torch.autocast(states.device.type, enabled=False):
        product, norm = _products_and_norms(states, vector)
    counted = has_image if real is None else real & has_image
    # NaN or infinity anywhere in a state or a prototype shows up in one of the two,
    # and then in their sum.
    if not math.isfinite((product + norm).sum()):
        fault = ~(product + norm).isfinite()
        fault = (fault if real is None else fault & real).any(dim=1)
        if fault.any():
            _report_nonfinite(fault, "hidden_states or prototype", nonfinite)
            counted = counted & ~fault[:, None]
    # A zero state has product 0 and stays 0. Rounding may leave [-1, 1] by a bit.
    cosine = product / norm.clamp(min=torch.finfo(norm.dtype).tiny)
    return cosine.clamp(-1, 1), counted


def _check_states(hidden_states: Tensor) -> Tensor:
    check_tensor(hidden_states, "hidden_states")
    if hidden_states.ndim != 3 or 0 in hidden_states.shape[1:]:
        raise ValueError(
            "hidden_states: must have shape (B, T, D) with T and D at least 1, got "
            f"{tuple(hidden_states.shape)}."
        )
    if not hidden_states.is_floating_point():
        raise ValueError(
            f"hidden_states: must be floating point, got {hidden_states.dtype}."
        )
    return hidden_states.detach()


def _check_nonfinite(nonfinite: str) -> None:
    if nonfinite not in ("raise", "neutral"):
        raise ValueError(f"nonfinite: must be 'raise' or 'neutral', got {nonfinite!r}.")


def _report_nonfinite(fault: Tensor, name: str, nonfinite: str) -> None:
    rows = fault.nonzero().flatten().tolist()
    if nonfinite == "raise":
        raise ValueError(
            f"{name}: NaN or infinity in row(s) {rows}. Mask padding out, check the "
            "model's numerics, or pass nonfinite='neutral' to leave such rows' "
            "advantages as they are."
        )
    logger.warning(
        "%s: NaN or infinity in row(s) %s, which are not re-weighted.", name, rows
    )


def _products_and_norms(states: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
    """h . v and |h| for every token, both (B, T), in the dtype of ``vector``."""
    if states.is_cuda:
        product = _cuda_bmm(states, vector[..., None])[..., 0]
        norm = torch.linalg.vector_norm(states, dim=-1, dtype=vector.dtype)
        return product, norm
    product, norm = vector.new_empty(2, *states.shape[:2])
    buffer = vector.new_empty(0)
    for block in _token_blocks(states):
        # One buffer for all blocks: a fresh one each time is fetched page by page from
        # the system, which takes longer than the arithmetic.
        chosen = states[:, block]
        piece = buffer.resize_(chosen.shape).copy_(chosen)
        norm[:, block] = torch.linalg.vector_norm(piece, dim=-1)
        # Not a matrix product: its last bit would depend on how many rows and tokens
        # come along, and a min-max over nearly equal scores would show it.
        product[:, block] = piece.mul_(vector[:, None]).sum(dim=-1)
    return product, norm


def _masked_total(states: Tensor, mask: Tensor) -> Tensor:
    """Sum of the states under ``mask``, (B, D)."""
    dtype = torch.promote_types(states.dtype, torch.float32)
    weights = mask[:, None].to(dtype)
    if states.is_cuda:
        return _cuda_bmm(weights, states)[:, 0]
    total = weights.new_zeros(len(states), 1, states.shape[2])
    for block in _token_blocks(states):
        # Images are a small part of most rows, and stand together.
        if mask[:, block].any():
            total.baddbmm_(weights[..., block], states[:, block].to(dtype))
    return total[:, 0]


def _token_blocks(states: Tensor) -> list[slice]:
    """Runs of tokens whose states (B, T, D) are converted together."""
    rows, tokens, width = states.shape
    length = max(1, _BLOCK_ELEMENTS * torch.get_num_threads() // max(1, rows * width))
    return [slice(start, start + length) for start in range(0, tokens, length)]


def _cuda_bmm(left: Tensor, right: Tensor) -> Tensor:
    """A batched product that adds up in float32, without a float32 copy of states.

    One operand may be float16 or bfloat16 states while the other is float32. That
    one is then written as a sum of three pieces of the states' dtype, which hold
    its 24 bits between them, so nothing is rounded before it is added up.
    """
    if left.dtype == right.dtype:
        return torch.bmm(left, right)
    if left.dtype == torch.float32:
        return _cuda_bmm(right.mT, left.mT).mT
    pieces = []
    # bfloat16 holds 8 of float32's 24 bits, so three pieces hold them all: each takes
    # what the ones before it have left over.
    for _ in range(3):
        pieces.append(right.to(left.dtype))
        right = right - pieces[-1].float()
    columns = torch.stack(pieces, dim=-1).flatten(-2)
    product = torch.bmm(left, columns, out_dtype=torch.float32)
    return product.view(*product.shape[:-1], right.shape[-1], 3).sum(dim=-1)
