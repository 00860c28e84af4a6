"""Words, formulas of chemistry and identifiers: texts that are no mathematics."""

import re

_ARTICLE = re.compile(r"(?:the\s+(?=\S)|an?\s+(?=\S{2}))", re.IGNORECASE)

_CHEMICAL = re.compile(r"(?:[A-Z][a-z]?\d*|[()\[\]+\-.^]|\d+[+-])+")
# Symbols of elements that, in capitals, are compounds of two others: Co is not CO.
_TWO_MEANINGS = (
    "BI BK CF CN CO CS CU HF HO HS IN NB NH NI NP OS PB PO PU SB SC SI SN YB"
)


def same_words(answer: str, reference: str) -> bool:
    """Whether two normalised texts say the same, letter by letter or word by word.

    Example:
        >>> same_words("The red car", "red car"), same_words("CO", "Co")
        (True, False)
        >>> same_words("H2O", "H_{2}O"), same_words("Aabb", "AaBb")
        (True, False)
    """
    formulas = _formula(answer), _formula(reference)
    if None not in formulas and any(map(str.isdigit, formulas[1])):
        return formulas[0] == formulas[1]
    if None not in formulas and formulas[0] == formulas[1]:
        return True  # H+ for H^+
    if _is_genotype(reference):
        return False
    words = plain_words(answer), plain_words(reference)
    if words[0].casefold() != words[1].casefold():
        return False
    return (
        words[0] == words[1]
        or words[1].upper() not in _TWO_MEANINGS.split()
        or (not all(word[:1].isupper() for word in words))
    )


def _is_genotype(reference: str) -> bool:
    """Pairs of one letter, large or small, where the size is what is said: AaBb."""
    pairs = re.findall("..?", reference)
    return bool(re.fullmatch("[A-Za-z]{2,8}", reference)) and all(
        len(pair) == 2 and pair[0].lower() == pair[1].lower() for pair in pairs
    )


def letters_of(reference: str) -> frozenset[str] | None:
    """The choices of ``AC``: capitals in the order of the alphabet.

    Example:
        >>> sorted(letters_of("AC")), letters_of("CA") is None
        (['A', 'C'], True)
    """
    if re.fullmatch("[A-J]{2,}", reference) and list(reference) == sorted(
        set(reference)
    ):
        return frozenset(reference)
    return None


def _formula(text: str) -> str | None:
    """A formula of chemistry without its typography: H_{2}O is H2O."""
    bare = re.sub(r"[_{}\s]", "", text)
    return bare.replace("^", "") if _CHEMICAL.fullmatch(bare) else None


def plain_words(text: str) -> str:
    """Words with one blank between them, without an article before them.

    Example:
        >>> plain_words("the  U.S.A."), plain_words("ice-cream!")
        ('USA', 'ice cream')
    """
    text = re.sub(r"_\{(\w+)\}", r"_\1", text.rstrip("!? "))
    text = re.sub(r"\\frac\s*\{(\w+)\}\s*\{(\w+)\}", r"\1/\2", text)
    # U.S.A. and Mr. Smith, with and without full stops
    text = re.sub(
        r"(?<![\w.])(?:[A-Za-z]\.)+[A-Za-z]\.?(?!\w)|\b(?i:[MD]rs?|Ms|St|Jr|Sr|No|vs)\.",
        lambda match: match[0].replace(".", ""),
        text,
    )
    text = re.sub(r"(\\[a-zA-Z]+)\s*\{(\w+)\}", r"\1 \2", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " ", text)
    text = re.sub(
        r"\s*(\\to(?![a-zA-Z])|->|[,;:/()&+])\s*", r"\1", " ".join(text.split())
    )
    return _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text
