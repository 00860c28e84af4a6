"""Which questions are answered together."""

from collections.abc import Sequence


def batches_by_length(
    lengths: Sequence[float],
    size: int,
    kinds: Sequence[object] | None = None,
    longest_first: bool = True,
) -> list[list[int]]:
    """Questions of similar length together.

    A batch takes as long as its longest answer and as much memory as its longest
    prompt. With the longest first it is known at once where memory does not suffice.

    Args:
        lengths: Expected, in any unit.
        size: Of a batch, at most.
        kinds: What is not to be mixed, one per question.
        longest_first: Or the shortest.

    Returns:
        Indices by batch; each occurs once.

    Raises:
        ValueError: ``size`` is below 1.

    Example:
        >>> batches_by_length([3, 9, 4, 8, 5], 2)
        [[1, 3], [4, 2], [0]]
        >>> batches_by_length([3, 9, 4], 2, ["text", "picture", "text"])
        [[1], [2, 0]]
    """
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {size}")
    names = [None] * len(lengths) if kinds is None else list(kinds)
    together: dict[object, list[int]] = {}
    sign = -1 if longest_first else 1
    for place in sorted(range(len(lengths)), key=lambda i: (sign * lengths[i], i)):
        together.setdefault(names[place], []).append(place)
    return [
        mine[start : start + size]
        for mine in together.values()
        for start in range(0, len(mine), size)
    ]
