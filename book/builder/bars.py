"""One bar for hidden code that follows hidden code.

MyST-NB folds every hidden cell under a bar of its own: a chapter that sets things up in
three cells would begin with three grey bars, one below the other, that all say the
same. Cells with nothing between them share the first one's.
"""

import re

_HIDDEN = (
    r'<div class="cell (?:[\w-]+ )*?tag_hide-input[^"]*">\s*'
    r'<details class="admonition hide above-input">\s*<summary(?:(?!</summary>).)*'
    r"</summary>\s*"
)
_FOLLOWING = re.compile(
    rf"({_HIDDEN}(?:(?!</?details).)*)</details>\s*</div>\s*{_HIDDEN}", re.DOTALL
)
_PARAMETERS = re.compile(
    r'(<div class="cell (?:[\w-]+ )*?tag_parameters[^"]*">\s*<details[^>]*>\s*'
    r"<summary.*?</summary>)",
    re.DOTALL,
)
_NAMED = (
    ("Show code cell source", "Show parameters and set-up"),
    ("Hide code cell source", "Hide parameters and set-up"),
)


def one_bar(page: str) -> str:
    """A page whose hidden cells share a bar where nothing stands between them.

    The bar above the parameters of a chapter says that they are there, since its
    exercises ask to change them.

    Args:
        page: HTML of a notebook, or any other, which stays as it is.

    Example:
        >>> def cell(tag, code):
        ...     bar = "<summary><p>Show code cell source</p></summary>"
        ...     bar = f'<details class="admonition hide above-input">{bar}{code}'
        ...     return f'<div class="cell {tag} docutils">{bar}</details></div>'
        >>> page = cell("tag_parameters tag_hide-input", "n = 1")
        >>> page = one_bar(page + cell("tag_hide-input", "import vgpo"))
        >>> print(page.replace("<summary>", "\\n<summary>"))
        <div class="cell tag_parameters tag_hide-input docutils"><details class="admonition hide above-input">
        <summary><p>Show parameters and set-up</p></summary>n = 1import vgpo</details></div>
    """  # noqa: E501
    count = 1
    while count:  # each takes the next one in
        page, count = _FOLLOWING.subn(r"\1", page)
    return _PARAMETERS.sub(_renamed, page)


def _renamed(bar: re.Match[str]) -> str:
    text = bar[0]
    for said, shown in _NAMED:
        text = text.replace(said, shown)
    return text
