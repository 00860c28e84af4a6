r"""The second small world: chains that stop looking at the picture.

In the first world (:class:`~vgpo.testbed.questions.World`) a chain looks at the right
tile and misreports it. Here it does not look: before each colour it chooses, in a
word, whether to look the value up or to go on from memory, and the later the place in
the chain, the rarer the look. What it remembers is the value it wrote last, so that the
chain goes on from its own text. That is what the paper (arXiv 2604.09349) means by
visual forgetting, with a known size::

    Given pink = 4 : Add red + pink + blue ?
    <think> look red = 5 . so see pink = 4 . 5 + 4 = 9 . hmm recall blue = 4 . ...

Two things keep the text from giving the looks away. Some values come from words of
the question (``pink``), after the same words and the same equals sign. And the words
that choose are fillers as well: only the last one before a colour means anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vgpo.testbed.images import BAR_ROWS, COLOURS, draw_bars, draw_grid, sample_scan
from vgpo.testbed.questions import (
    FILLERS,
    SOURCES,
    ChainWriter,
    Example,
    SourcedToken,
    World,
    vocabulary,
    without_ties,
)

LOOKS = ("look", "see", "view")
"""Words right before a colour whose value is looked up."""

RECALLS = ("recall", "remember", "think")
"""Words right before a colour that gets the value written last, without a look."""

SMALL_TALK = tuple(dict.fromkeys((*FILLERS, *LOOKS, *RECALLS)))
"""Words that may follow a step and bear on nothing; those that choose are among
them."""

LOOK_AWAY_SOURCES = (*SOURCES, "decision", "memory")
"""Where a token comes from, as in ``SOURCES``; ``"decision"`` is the word that chooses
whether a tile is looked at; ``"memory"`` a value of a tile that was not looked up."""


@dataclass(frozen=True)
class LookAwayExample(Example):
    """A question of the look-away world.

    Attributes:
        given: Colour and value of each entry that the question states in words; those
            colours are not in the picture.
    """

    given: tuple[tuple[str, int], ...] = ()

    def trace(self, tokens: Sequence[str]) -> tuple[SourcedToken, ...]:
        """The true source of each token of any completion; see
        ``vgpo.testbed.trace``.

        A value of a tile after a word of ``RECALLS`` comes from memory; it keeps the
        tiles that it should have come from, and what they show as ``truth``.
        """
        entries = {f" {colour}": i for i, colour in enumerate(self.colours)}
        given = {f" {colour}" for colour, _ in self.given}
        recalls = {f" {word}" for word in RECALLS}
        talk = {f" {word}" for word in SMALL_TALK}

        def names_an_entry(place: int) -> bool:
            pair = tokens[place : place + 2]
            return len(pair) == 2 and pair[1] == " =" and (
                pair[0] in entries or pair[0] in given
            )  # fmt: skip

        traced = []
        for i, text in enumerate(tokens):
            if names_an_entry(i):
                traced.append(SourcedToken(text, "question"))
            elif i >= 2 and names_an_entry(i - 2):
                traced.append(self._value(text, tokens[i - 2], tokens[i - 3 : i - 2],
                                          entries, recalls))  # fmt: skip
            elif text in talk:
                decides = names_an_entry(i + 1) and tokens[i + 1] in entries
                traced.append(SourcedToken(text, "decision" if decides else "filler"))
            else:
                traced.append(SourcedToken(text))
        return tuple(traced)

    def _value(self, text, colour, chosen, entries, recalls) -> SourcedToken:
        if colour not in entries:
            return SourcedToken(text, "question")
        entry = entries[colour]
        source = "memory" if recalls.intersection(chosen) else "image"
        truth = f" {self.values[entry]}"
        return SourcedToken(text, source, self.tiles_of(entry), truth)


class _LookAwayWriter(ChainWriter):
    """Writes chains that choose before each colour whether to look."""

    def __init__(self, values, tiles_of, rng, lapse, verbosity):
        super().__init__(values, tiles_of, rng, 0.0, verbosity)
        self._lapse = lapse
        self._place = 0
        self._looks = True
        self._last = None

    talk = SMALL_TALK

    def name(self, colour: str, entry: int) -> None:
        """The chain chooses, then names a colour that the question asks for."""
        self._place += 1
        on_tile = bool(self._tiles_of(entry))
        lapses = self._rng.random() < self._lapse(self._place)
        # What the question says in words is always there to look at.
        self._looks = not (on_tile and lapses)
        words = LOOKS if self._looks else RECALLS
        source = "decision" if on_tile else "filler"
        word = words[self._rng.integers(len(words))]
        self.tokens.append(SourcedToken(f" {word}", source))
        self.question(colour)

    def read(self, entry: int, low: int = 0) -> int:
        """The chain takes a value from where it chose to take it."""
        tiles, true = self._tiles_of(entry), self._values[entry]
        if not tiles:
            self._last = self.quote(entry)
            return self._last
        if self._looks:
            self._last = true
        source = "image" if self._looks else "memory"
        self.tokens.append(SourcedToken(f" {self._last}", source, tiles, f" {true}"))
        return self._last


@dataclass(frozen=True)
class LookAwayWorld(World):
    """The rules of the look-away world; examples are a pure function of seed and index.

    Attributes:
        grids: Sizes ``(rows, columns)`` that grids are drawn from.
        bars: Numbers of bars that charts are drawn from.
        families: Which families are asked, each as often. All but ``text`` ask for
            colours of a picture and for at least one that the question gives in words.
        min_terms: Fewest colours asked for (counts: one more).
        max_terms: Most colours asked for (counts: one more).
        given_share: Chance in [0, 1) that a colour asked for is given in words.
        total_share: Has to be 0: there is no ``Total ?`` here.
        forgetfulness: f in [0, 1): chance that a chain does not look at a tile, from
            colour number ``forgets_fully_at`` on; before, at the j-th,
            ``f * ((j - 1) / (forgets_fully_at - 1))**2``, so never at the first.
        verbosity: Chance v in [0, 1) that a word of ``SMALL_TALK`` follows a step, then
            another, up to six.
        noise: As in :class:`~vgpo.testbed.questions.World`.
        forgets_fully_at: See ``forgetfulness``; at least 2.
    """

    max_terms: int = 6
    total_share: float = 0.0
    forgetfulness: float = 0.0
    min_terms: int = 3
    given_share: float = 0.45
    forgets_fully_at: int = 4

    def __post_init__(self):
        super().__post_init__()
        if self.total_share:
            raise ValueError("total_share must be 0 in the look-away world")
        if self.max_terms >= len(COLOURS):
            raise ValueError(
                f"max_terms must be below {len(COLOURS)}, one colour each and one more "
                f"for counts; got {self.max_terms}"
            )
        if not 2 <= self.min_terms <= self.max_terms:
            raise ValueError(
                f"min_terms must be in 2..max_terms={self.max_terms}, "
                f"got {self.min_terms}"
            )
        if max(r * c for r, c in self.grids) >= len(COLOURS):
            raise ValueError(
                f"grids must leave a colour to be given in words, of {len(COLOURS)}; "
                f"got {self.grids}"
            )
        if max(self.bars) >= len(COLOURS):
            raise ValueError(
                f"bars must leave a colour to be given in words, of {len(COLOURS)}; "
                f"got {self.bars}"
            )
        if not 0 <= self.given_share < 1:
            raise ValueError(f"given_share must be in [0, 1), got {self.given_share}")
        if self.forgets_fully_at < 2:
            raise ValueError(
                f"forgets_fully_at must be at least 2, got {self.forgets_fully_at}"
            )

    def lapse(self, place: int) -> float:
        """Chance that the chain does not look at its colour number ``place``, from 1.

        Example:
            >>> world = LookAwayWorld(forgetfulness=0.7)
            >>> [round(world.lapse(place), 2) for place in (1, 2, 3, 4, 5, 6)]
            [0.0, 0.08, 0.31, 0.7, 0.7, 0.7]
        """
        rise = min(1.0, (place - 1) / (self.forgets_fully_at - 1))
        return self.forgetfulness * rise**2

    def _shown(self, rng, terms: int, tiles: int) -> list[bool]:
        """For each colour asked for, whether it is one of the picture's."""
        shown = rng.random(terms) >= self.given_share
        # At least one of each kind; no more than there are tiles, or than colours
        # are left beside those of the tiles.
        least = max(1, terms - (len(COLOURS) - tiles))
        most = min(tiles, terms - 1)
        for i in rng.permutation(terms):
            if shown.sum() < least:
                shown[i] = True
            elif shown.sum() > most:
                shown[i] = False
        return [bool(s) for s in shown]

    def _grid(self, family: str, rng, split: str) -> LookAwayExample:
        rows, columns = self.grids[rng.integers(len(self.grids))]
        n = rows * columns
        colours = [str(c) for c in rng.permutation(list(COLOURS))[:n]]
        digits = [int(d) for d in rng.integers(0, 10, n)]
        scans = [sample_scan(d, split, rng) for d in digits]
        image = draw_grid(colours, scans, columns, rng, self.noise)
        return self._ask(rng, family, image, rows, columns, colours, digits)

    def _chart(self, rng) -> LookAwayExample:
        n = int(self.bars[rng.integers(len(self.bars))])
        colours = [str(c) for c in rng.permutation(list(COLOURS))[:n]]
        heights = [int(h) for h in rng.integers(1, 10, n)]
        image = draw_bars(colours, heights, rng, self.noise)
        return self._ask(rng, "chart", image, BAR_ROWS, n, colours, heights)

    def _text(self, rng) -> LookAwayExample:
        return self._ask(rng, "text", None, 0, 0, [], [])

    def _ask(
        self, rng, family, image, rows, columns, colours, values
    ) -> LookAwayExample:
        """Draws what is asked over a picture, and writes the chain."""
        more = family == "count"
        terms = int(rng.integers(self.min_terms + more, self.max_terms + more + 1))
        tiles = len(colours)
        shown = self._shown(rng, terms, tiles) if tiles else [False] * terms
        low = 1 if family == "chart" else 0
        others = [c for c in COLOURS if c not in colours]
        given = [
            (str(c), int(rng.integers(low, 10)))
            for c in rng.permutation(others)[: terms - sum(shown)]
        ]
        # Entries: those of the picture, then those that the question gives.
        names = [*colours, *(c for c, _ in given)]
        known = [*values, *(v for _, v in given)]
        looked_up = iter(int(i) for i in rng.permutation(tiles)[: sum(shown)])
        quoted = iter(range(tiles, len(names)))
        chosen = [next(looked_up if s else quoted) for s in shown]

        example = LookAwayExample(
            family, "", image, "", (), rows, columns, tuple(colours), tuple(values),
            given=tuple(given),
        )  # fmt: skip
        write = _LookAwayWriter(
            known,
            lambda i: example.tiles_of(i) if i < tiles else (),
            rng,
            self.lapse,
            self.verbosity,
        )
        if family == "compare":
            # Of tied ones the picture's stay: something is left to look at.
            first = sorted(chosen, key=lambda i: i >= tiles)
            kept = without_ties(first, known)
            chosen = [i for i in chosen if i in kept]
            asks = f"Largest of {' , '.join(names[i] for i in chosen)}"
            answer = str(self._compare(write, chosen, names, known, write.name))
        elif family == "count":
            kind = ("even", "odd")[rng.integers(2)]
            asks = f"Count {kind} of {' , '.join(names[i] for i in chosen)}"
            answer = str(self._count(write, kind, chosen, names, known))
        else:
            verb = {"sum": "Add ", "chart": "Bars ", "text": ""}[family]
            asks = verb + " + ".join(names[i] for i in chosen)
            answer = str(sum(known[i] for i in chosen))
            self._add(write, chosen, names, write.read, write.name)
        stated = [given[i] for i in rng.permutation(len(given))]
        words = " , ".join(f"{c} = {v}" for c, v in stated)
        return replace(
            example,
            question=f"Given {words} : {asks} ?",
            answer=answer,
            chain=tuple(write.tokens),
        )


def look_away_vocabulary() -> list[str]:
    """Every piece of text of the look-away world, in order: the first world's, and the
    words that choose."""
    new = [f" {word}" for word in (*LOOKS, *RECALLS)]
    return list(dict.fromkeys(vocabulary() + new))


WORLDS: dict[str, World] = {
    "misread": World(),
    "look_away": LookAwayWorld(),
    "look_away_wordy": LookAwayWorld(),
    "look_away_large": LookAwayWorld(
        grids=((3, 3), (2, 5), (5, 2)),
        bars=(5, 6, 7, 8),
        min_terms=6,
        max_terms=9,
        forgets_fully_at=8,
    ),
}
"""The questions of each world, by its name; chains without lapse and small talk.

``look_away_large`` has more tiles and longer chains; its model is too large to ship."""
