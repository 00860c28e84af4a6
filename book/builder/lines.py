"""Code that is read whole: a line too long for the page goes on in the next one,
further in than it began.

On a phone half of a line of code would lie beyond the edge, to be moved sideways and
back for every line; broken without a sign, the rest would look like a line of its own.
The style sheet breaks and indents lines (``.line``).
"""

import re

_BLOCK = re.compile(
    r'(<div class="[^"]*\bhighlight-(?:default|python|pycon|ipython3|yaml|toml|json)\b'
    r'[^>]*>\s*<div class="highlight">\s*<pre[^>]*>)(<span></span>)?(.*?)(</pre>)',
    re.DOTALL,
)
_TAG = re.compile(r"<[^>]*>")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_DEEPEST = 16  # characters: a line that begins further in has hardly any room there
_CODE_STARTS = re.compile(
    r'^(?:<span class="gp">[^<]*</span>)?(?:<span class="w"> +</span>| +)?'
    r'(?:<span class="\w+">[\w@.]{1,24}</span>|[\w@.]{1,24}(?!\w))'
)
_OPTION = re.compile(
    r'<span class="o">--</span>(?:<span class="[no]">[\w-]+</span>)+'
)  # of a command in a docstring, whose language is not told
_START = re.compile(r"(?:(?:&gt;&gt;&gt;|\.\.\.) )? *")


def whole_lines(page: str) -> str:
    """A page whose lines of code are elements with the width of their indentation.

    Args:
        page: HTML. Commands, texts and what a notebook printed stay as they are.

    Example:
        >>> box = '<div class="highlight-default"><div class="highlight"><pre>{}</pre>'
        >>> print(whole_lines(box.format("if it:\\n    so()\\n"))[59:])
        <span class="line" style="--in: 0"><span class="start">if</span> it:
        </span><span class="line" style="--in: 4"><span class="start">    so</span>()
        </span></pre>
    """
    return _BLOCK.sub(
        lambda block: f"{block[1]}{block[2] or ''}{_lines(block[3])}{block[4]}", page
    )


def _lines(code: str) -> str:
    code = _OPTION.sub(r'<span class="whole">\g<0></span>', code)
    # Pygments closes at the end of a line what it opened there.
    return "".join(
        f'<span class="line" style="--in: {_indent(line)}">{_held(line)}</span>'
        for line in _LINE.findall(code)
    )


def _held(line: str) -> str:
    """The line, its prompt and its indentation kept on one line with its first word."""
    return _CODE_STARTS.sub(r'<span class="start">\g<0></span>', line, count=1)


def _indent(line: str) -> int:
    start = _START.match(_TAG.sub("", line))
    return min(len(start[0].replace("&gt;", ">")), _DEEPEST) if start else 0
