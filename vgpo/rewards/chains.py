"""Chains of relations: things in an order, as ``A < B < C``, or backwards."""

import re
from collections.abc import Callable
from dataclasses import dataclass

_ORDER = re.compile(r"\s*(<|>|=|\\le(?![a-zA-Z])|\\ge(?![a-zA-Z]))\s*")
_TURNED = {">": "<", r"\ge": r"\le"}
# Names and numbers, which need no algebra to be told apart.
_PLAIN = re.compile(r"(?:\\[a-zA-Z]+\s*)?[A-Za-z]{0,3}'*(?:_\{?\w+\}?)?|[+-]?\d[\d.,]*")


@dataclass(frozen=True)
class Chain:
    """Things in rising order.

    Attributes:
        signs: Between the steps, each ``<`` or ``\\le``.
        steps: Each all that is equal, as it is written.
    """

    signs: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]

    @property
    def is_plain(self) -> bool:
        """Whether it holds nothing but names and numbers."""
        return all(_PLAIN.fullmatch(link) for step in self.steps for link in step)

    def same(self, other: "Chain", equal: Callable[[str, str], bool]) -> bool:
        """Whether two chains say one order.

        Args:
            other: A chain.
            equal: Whether a thing of this one is a thing of the other.
        """
        return self.signs == other.signs and all(
            len(mine) == len(its)
            and all(any(equal(one, wanted) for one in mine) for wanted in its)
            for mine, its in zip(self.steps, other.steps, strict=True)
        )


def parse_chain(text: str) -> Chain | None:
    r"""A normalised text as a chain, or None if it is none.

    Example:
        >>> parse_chain("C>B>A") == parse_chain("A<B<C")
        True
        >>> parse_chain("x = 5") is None, parse_chain("A<C>B") is None
        (True, True)
    """
    parts = _ORDER.split(text)
    links, signs = parts[::2], parts[1::2]
    ordering = {sign for sign in signs if sign != "="}
    falling = ordering <= set(_TURNED)
    if not ordering or not all(links) or (ordering & set(_TURNED) and not falling):
        return None
    if falling:
        links, signs = links[::-1], [_TURNED.get(sign, sign) for sign in signs[::-1]]
    steps = [[links[0]]]
    for sign, link in zip(signs, links[1:], strict=True):
        if sign == "=":
            steps[-1].append(link)
        else:
            steps.append([link])
    return Chain(
        tuple(sign for sign in signs if sign != "="),
        tuple(tuple(step) for step in steps),
    )
