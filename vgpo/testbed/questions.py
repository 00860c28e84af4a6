r"""Questions about the pictures, and answers whose every token has a known source.

A completion looks like ``<think> red = 5 . blue = 8 . 5 + 8 = 13 .</think>
\boxed{13}``. Each of its tokens carries where it comes from: the image (and
which tiles), the question, earlier text, or nowhere (filler). That is the truth
against which focus scores, gates and attention are graded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from vgpo.testbed.images import (
    BAR_ROWS,
    COLOURS,
    check_split,
    draw_bars,
    draw_grid,
    sample_scan,
)

SOURCES = ("image", "question", "text", "filler")
"""Where a token comes from, that is tiles of the image, words of the question, earlier
text of the completion (arithmetic and syntax included), or free choice."""

FAMILIES = ("sum", "count", "compare", "chart", "text")
"""Question families; ``text`` is the control that has no image."""

IMAGE_FAMILIES = FAMILIES[:-1]

FILLERS = ("so", "then", "now", "well", "hmm", "next", "okay", "look", "and", "right")
"""Words that may follow a step and bear on nothing."""

MAX_FILLERS = 6


@dataclass(frozen=True)
class SourcedToken:
    """One token of a completion and where it comes from.

    Attributes:
        text: The token's text, leading space included; concatenating the texts
            of a completion gives the completion.
        source: One of ``SOURCES``.
        tiles: For ``source="image"``, the raster indices of the tiles that show
            it (a bar spans several); empty otherwise.
        truth: For a read of the image, the text a faithful reader would write;
            it differs from ``text`` where forgetfulness replaced the digit.
    """

    text: str
    source: str = "text"
    tiles: tuple[int, ...] = ()
    truth: str | None = None

    @property
    def faithful(self) -> bool:
        """False where the token misreports what the image shows."""
        return self.truth is None or self.truth == self.text


@dataclass(frozen=True)
class Example:
    r"""A question with its picture, its answer and a chain that leads there.

    Attributes:
        family: One of ``FAMILIES``.
        question: What the user asks, without the image.
        image: The picture, or None for the text-only control.
        answer: The true answer, whatever the chain says.
        chain: The completion, token by token, ``<think>`` to ``}``.
        rows: Tiles from top to bottom (0 without an image).
        columns: Tiles from left to right (0 without an image).
        colours: Colour names, one per tile or bar, in raster order.
        values: Digit or bar height, one per colour.
    """

    family: str
    question: str
    image: Image.Image | None = field(repr=False)
    answer: str
    chain: tuple[SourcedToken, ...] = field(repr=False)
    rows: int
    columns: int
    colours: tuple[str, ...]
    values: tuple[int, ...]

    @property
    def completion(self) -> str:
        """The text of the chain, ``<think> ... </think> \\boxed{...}``."""
        return "".join(token.text for token in self.chain)

    def tiles_of(self, entry: int) -> tuple[int, ...]:
        """Raster indices of the tiles that show colour number ``entry``."""
        if self.family == "chart":
            return tuple(row * self.columns + entry for row in range(self.rows))
        return () if self.image is None else (entry,)

    @property
    def reads(self) -> int:
        """How many values the chain takes from the image."""
        return sum(token.truth is not None for token in self.chain)

    def trace(self, tokens: Sequence[str]) -> tuple[SourcedToken, ...]:
        """The true source of each token of any completion; see :func:`trace`."""
        entries = {f" {colour}": i for i, colour in enumerate(self.colours)}
        asked = self.question.split(":")[-1].split()
        fillers = {f" {word}" for word in FILLERS}
        traced = []
        for i, text in enumerate(tokens):
            before, after = tokens[max(0, i - 2) : i], tokens[i + 1 : i + 2]
            if text in entries and list(after) == [" ="]:
                if text.strip() in asked or self.image is None:
                    traced.append(SourcedToken(text, "question"))
                else:
                    traced.append(
                        SourcedToken(text, "image", self.tiles_of(entries[text]))
                    )
            elif len(before) == 2 and before[0] in entries and before[1] == " =":
                entry = entries[before[0]]
                truth = f" {self.values[entry]}"
                if self.image is None:
                    traced.append(SourcedToken(text, "question"))
                else:
                    traced.append(
                        SourcedToken(text, "image", self.tiles_of(entry), truth)
                    )
            elif text in fillers:
                traced.append(SourcedToken(text, "filler"))
            else:
                traced.append(SourcedToken(text))
        return tuple(traced)


class ChainWriter:
    """Writes a chain token by token, with its slips and its small talk."""

    talk: Sequence[str] = FILLERS

    def __init__(self, example_values, tiles_of, rng, forgetfulness, verbosity):
        self.tokens: list[SourcedToken] = [SourcedToken("<think>")]
        self._values = example_values
        self._tiles_of = tiles_of
        self._rng = rng
        self._forgetfulness = forgetfulness
        self._verbosity = verbosity
        self._reads = 0

    def text(self, *words) -> None:
        self.tokens += [SourcedToken(f" {word}") for word in words]

    def question(self, word) -> None:
        self.tokens.append(SourcedToken(f" {word}", "question"))

    def name(self, colour: str, entry: int) -> None:
        """The chain names the colour of a tile nobody named before."""
        self.tokens.append(SourcedToken(f" {colour}", "image", self._tiles_of(entry)))

    def read(self, entry: int, low: int = 0) -> int:
        """The chain takes a value from the image, and may misremember it."""
        true = self._values[entry]
        value = true
        self._reads += 1
        slip = 1 - (1 - self._forgetfulness) ** self._reads
        if self._forgetfulness and self._rng.random() < slip:
            value = int(self._rng.integers(low, 10))
        self.tokens.append(
            SourcedToken(f" {value}", "image", self._tiles_of(entry), f" {true}")
        )
        return value

    def quote(self, entry: int) -> int:
        """The chain takes a value from the words of the question."""
        self.question(self._values[entry])
        return self._values[entry]

    def stop(self) -> None:
        self.text(".")
        for _ in range(MAX_FILLERS):
            if self._rng.random() >= self._verbosity:
                break
            word = self.talk[self._rng.integers(len(self.talk))]
            self.tokens.append(SourcedToken(f" {word}", "filler"))

    def finish(self, answer) -> tuple[SourcedToken, ...]:
        texts = ["</think>", " \\", "boxed", "{", str(answer), "}"]
        self.tokens += [SourcedToken(text) for text in texts]
        return tuple(self.tokens)


@dataclass(frozen=True)
class World:
    """The rules of the small world. Examples are a pure function of seed and index.

    Attributes:
        grids: Sizes ``(rows, columns)`` that grids are drawn from.
        bars: Numbers of bars that charts are drawn from.
        families: Which families are asked, each as often.
        max_terms: Longest sum and comparison; the ``Total ?`` form of a sum and
            counting go over the whole grid.
        total_share: Share of sums asked as ``Total ?``, whose chain must name
            the colours of the grid itself.
        forgetfulness: Chance f in [0, 1) that a chain misreports the first value
            it reads; the j-th read is replaced by a random one with probability
            ``1 - (1 - f)**j``, and the arithmetic goes on with it.
        verbosity: Chance v in [0, 1) that a filler word follows a step, then
            another, up to six.
        noise: Jitter of hue, position and pixels; 1 is the shipped world.
    """

    grids: tuple[tuple[int, int], ...] = ((2, 2), (2, 3), (3, 2), (3, 3))
    bars: tuple[int, ...] = (3, 4, 5)
    families: tuple[str, ...] = FAMILIES
    max_terms: int = 5
    total_share: float = 0.5
    forgetfulness: float = 0.0
    verbosity: float = 0.0
    noise: float = 1.0

    def __post_init__(self):
        for name in ("forgetfulness", "verbosity", "total_share"):
            value = getattr(self, name)
            top = 1.0 if name == "total_share" else np.nextafter(1.0, 0.0)
            if not 0 <= value <= top:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        if unknown := set(self.families) - set(FAMILIES):
            raise ValueError(
                f"families must be among {FAMILIES}, got {sorted(unknown)}"
            )
        if not self.families:
            raise ValueError("families must name at least one family")
        if self.max_terms < 1:
            raise ValueError(f"max_terms must be at least 1, got {self.max_terms}")
        if self.noise < 0 or self.noise > 2:
            raise ValueError(f"noise must be in [0, 2], got {self.noise}")
        if not self.grids or any(
            r < 1 or c < 1 or r * c > len(COLOURS) for r, c in self.grids
        ):
            raise ValueError(
                f"grids must be pairs (rows, columns) of 1 to {len(COLOURS)} tiles "
                f"(one colour each), got {self.grids}"
            )
        if not self.bars or any(not 1 <= n <= len(COLOURS) for n in self.bars):
            raise ValueError(f"bars must be in 1..{len(COLOURS)}, got {self.bars}")

    def example(
        self,
        index: int,
        seed: int = 0,
        split: str = "train",
        family: str | None = None,
    ) -> Example:
        """The example at ``index`` of the endless sequence of ``seed``.

        Args:
            index: Position in the sequence, from 0.
            seed: Names the sequence.
            split: ``"train"`` or ``"heldout"``: which handwritten scans are used.
            family: Ask this family; by default it is drawn from ``families``.

        Raises:
            ValueError: unknown split or family, or a negative index or seed.

        Example:
            >>> World().example(0, family="text").family
            'text'
        """
        check_split(split)
        if index < 0 or seed < 0:
            raise ValueError(
                f"index and seed must not be negative, got {index} and {seed}"
            )
        rng = np.random.default_rng([seed, ("train", "heldout").index(split), index])
        drawn = self.families[rng.integers(len(self.families))]
        family = drawn if family is None else family
        if family not in FAMILIES:
            raise ValueError(f"family must be one of {FAMILIES}, got {family!r}")
        if family == "chart":
            return self._chart(rng)
        if family == "text":
            return self._text(rng)
        return self._grid(family, rng, split)

    def examples(
        self,
        count: int,
        families: Sequence[str] = FAMILIES,
        *,
        seed: int = 0,
        split: str = "train",
    ) -> list[Example]:
        """The first ``count`` examples of each family, by turns.

        Args:
            count: Of each family.
            families: Which are asked, in this order.
            seed: As in :meth:`example`.
            split: As in :meth:`example`.

        Raises:
            ValueError: As :meth:`example`.

        Example:
            >>> [e.family for e in World().examples(2, ("sum", "text"))]
            ['sum', 'text', 'sum', 'text']
        """
        return [
            self.example(index, seed, split, family)
            for index in range(count)
            for family in families
        ]

    def without_slips(self) -> "World":
        """The same world with neither forgetfulness nor filler."""
        return replace(self, forgetfulness=0.0, verbosity=0.0)

    def _writer(self, values, tiles_of, rng, forgetfulness=None):
        forgetfulness = self.forgetfulness if forgetfulness is None else forgetfulness
        return ChainWriter(values, tiles_of, rng, forgetfulness, self.verbosity)

    def _choose(self, rng, entries: int, least: int = 1) -> list[int]:
        most = min(self.max_terms, entries)
        terms = int(rng.integers(min(least, most), most + 1))
        return [int(i) for i in rng.permutation(entries)[:terms]]

    def _grid(self, family: str, rng, split: str) -> Example:
        rows, columns = self.grids[rng.integers(len(self.grids))]
        n = rows * columns
        colours = [str(c) for c in rng.permutation(list(COLOURS))[:n]]
        digits = [int(d) for d in rng.integers(0, 10, n)]
        asked = None
        if family == "count":
            asked = ("even", "odd", str(rng.integers(10)))[rng.integers(3)]
            if asked.isdigit() and n > 1:
                # Without this most answers would be 0 or 1 whatever the image shows.
                for i in rng.permutation(n)[: rng.integers(1, 1 + n // 2)]:
                    digits[i] = int(asked)
        scans = [sample_scan(d, split, rng) for d in digits]
        image = draw_grid(colours, scans, columns, rng, self.noise)
        write = self._writer(digits, lambda i: (i,), rng)
        if family == "count":
            answer = self._count(write, asked, range(n), colours, digits)
            question = f"Count {asked} ?"
        elif family == "compare":
            chosen = self._choose(rng, n, least=2)
            chosen = without_ties(chosen, digits)
            answer = self._compare(write, chosen, colours, digits)
            question = f"Largest of {' , '.join(colours[i] for i in chosen)} ?"
        elif rng.random() < self.total_share:
            question, answer = "Total ?", sum(digits)
            self._add(write, list(range(n)), colours, write.read, write.name)
        else:
            chosen = self._choose(rng, n)
            question = "Add " + " + ".join(colours[i] for i in chosen) + " ?"
            answer = sum(digits[i] for i in chosen)
            self._add(write, chosen, colours, write.read)
        return self._example(
            family, question, image, answer, write, rows, columns, colours, digits
        )

    def _chart(self, rng) -> Example:
        n = int(self.bars[rng.integers(len(self.bars))])
        colours = [str(c) for c in rng.permutation(list(COLOURS))[:n]]
        heights = [int(h) for h in rng.integers(1, 10, n)]
        image = draw_bars(colours, heights, rng, self.noise)

        def column(i):
            return tuple(row * n + i for row in range(BAR_ROWS))

        write = self._writer(heights, column, rng)
        chosen = self._choose(rng, n)
        question = "Bars " + " + ".join(colours[i] for i in chosen) + " ?"
        answer = sum(heights[i] for i in chosen)
        self._add(write, chosen, colours, lambda i: write.read(i, low=1))
        return self._example(
            "chart", question, image, answer, write, BAR_ROWS, n, colours, heights
        )

    def _text(self, rng) -> Example:
        n = int(rng.integers(1, 7))
        colours = [str(c) for c in rng.permutation(list(COLOURS))[:n]]
        digits = [int(d) for d in rng.integers(0, 10, n)]
        given = " , ".join(f"{c} = {d}" for c, d in zip(colours, digits, strict=True))
        write = self._writer(digits, lambda i: (), rng, forgetfulness=0.0)
        chosen = self._choose(rng, n)
        total = " + ".join(colours[i] for i in chosen)
        answer = sum(digits[i] for i in chosen)
        self._add(write, chosen, colours, write.quote)
        return self._example(
            "text", f"Given {given} : {total} ?", None, answer, write, 0, 0, colours,
            digits,
        )  # fmt: skip

    @staticmethod
    def _example(
        family, question, image, answer, write, rows, columns, colours, values
    ) -> Example:
        return Example(
            family=family,
            question=question,
            image=image,
            answer=str(answer),
            chain=tuple(write.tokens),
            rows=rows,
            columns=columns,
            colours=tuple(colours),
            values=tuple(values),
        )

    @staticmethod
    def _add(write, chosen, colours, take, name=None) -> None:
        """The chain of a sum: look one up, add it, look the next one up."""
        total = None
        for i in chosen:
            if name is None:
                write.question(colours[i])
            else:
                name(colours[i], i)
            write.text("=")
            value = take(i)
            write.stop()
            if total is None:
                total = value
                continue
            write.text(total, "+", value, "=", total + value)
            total += value
            write.stop()
        write.finish(total)

    @staticmethod
    def _count(write, asked, chosen, colours, digits) -> int:
        """The chain of a count over the entries ``chosen``; returns the true count."""

        def matches(value: int) -> bool:
            if asked.isdigit():
                return value == int(asked)
            return value % 2 == (asked == "odd")

        found = 0
        for i in chosen:
            write.name(colours[i], i)
            write.text("=")
            hit = matches(write.read(i))
            found += hit
            write.text("yes" if hit else "no", found)
            write.stop()
        write.finish(found)
        return sum(matches(digits[i]) for i in chosen)

    @staticmethod
    def _compare(write, chosen, colours, digits, name=None) -> str:
        """The chain of a comparison; returns the colour of the largest value."""
        leader = top = None
        for i in chosen:
            if name is None:
                write.question(colours[i])
            else:
                name(colours[i], i)
            write.text("=")
            value = write.read(i)
            write.stop()
            if leader is None:
                leader, top = colours[i], value
                continue
            sign = ">" if value > top else "<" if value < top else "="
            write.text(value, sign, top, ":")
            if value > top:
                leader, top = colours[i], value
            write.text(leader)
            write.stop()
        write.finish(leader)
        return colours[max(chosen, key=lambda i: digits[i])]


def without_ties(chosen: Sequence[int], digits: Sequence[int]) -> list[int]:
    """The entries less those that share the largest value with an earlier one: a tie
    has no single right answer."""
    best = max(digits[i] for i in chosen)
    tied = [i for i in chosen if digits[i] == best]
    return [i for i in chosen if i not in tied[1:]]


def trace(example: Example, tokens: Sequence[str]) -> tuple[SourcedToken, ...]:
    """The true source of each token of any completion of an example's question.

    What a model writes follows the grammar of the chains more or less, so a token's
    source is read off its neighbours: ``" red", " =", " 5"`` looks the red tile up,
    whatever stands around it.

    Args:
        example: The question that was asked.
        tokens: The completion, one text per token.

    Returns:
        One :class:`SourcedToken` per token, with what a faithful reader would have
        written as ``truth`` where a value is looked up.

    Example:
        >>> example = World().example(0, family="sum")
        >>> trace(example, [t.text for t in example.chain]) == example.chain
        True
    """
    return example.trace(tokens)


def vocabulary() -> list[str]:
    """Every piece of text the small world can produce as one token, in order.

    The tokenizer gives each a token of its own; all other text falls back on
    bytes.
    """
    words = [
        *COLOURS, *FILLERS, "even", "odd", "yes", "no", "of",
        "=", "+", ".", "?", ",", ":", ">", "<", "\\",
    ]  # fmt: skip
    bare = ["boxed", "Add", "Total", "Count", "Largest", "Bars", "Given"]
    bare += ["user", "assistant", "system", *COLOURS]
    numbers = [str(n) for n in range(100)]
    return list(
        dict.fromkeys(
            [f" {w}" for w in words] + [f" {n}" for n in numbers] + bare + numbers
        )
    )
