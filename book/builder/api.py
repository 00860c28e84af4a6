"""The page of the package, one for each of its groups, and an index of one screen.

``book/api.md`` is one file, so that a module is added in one place; its level-two
headings become pages of their own when the book is built.
"""

import ast
import re
from pathlib import Path

from book.builder import BuildError

PAGE = "book/api"
_ARRAY_LIKE = re.compile(
    r"numpy\._typing\._array_like\._Buffer .*?"
    r"_NestedSequence\[complex \| bytes \| str\]"
)
_EQUATION = re.compile(r"\bEq\. ([\d\-, ]*\d)")


def slug(title: str) -> str:
    """A file name out of a heading.

    Example:
        >>> slug("Inside a model, and out")
        'inside_a_model_and_out'
    """
    return re.sub(r"\W+", "_", title.lower()).strip("_")


def split(text: str, names: str) -> dict[str, str]:
    """The index and the pages of the groups.

    Args:
        text: ``book/api.md``: a title, some words, and groups under ``##``.
        names: The table of public names, which follows the words.

    Returns:
        File name without ending -> text; the index first, under ``api``.

    Raises:
        BuildError: Two groups have the same name.
    """
    start, *groups = re.split(r"^## ", text, flags=re.MULTILINE)
    pages, listed = {}, []
    for group in groups:
        title, _, body = group.partition("\n")
        name = f"api_{slug(title)}"
        if name in pages:
            raise BuildError(f"book/api.md: two groups are called {title!r}")
        parts = re.findall(r"^### (.*)", body, flags=re.MULTILINE)
        # One level up, with the page's own title above.
        pages[name] = f"# {title}\n" + re.sub(
            r"^##(#+) ", r"#\1 ", body, flags=re.MULTILINE
        )
        listed.append(f"- {{doc}}`{name}`: {'; '.join(parts) or title.lower()}")
    words = re.sub(r"<!--.*?-->\s*", "", start, flags=re.DOTALL)
    # In a box of its own, so that the style sheet can stack its columns on a phone.
    table = [":::{div} public-names", names, ":::"]
    groups_of_names = [":::{div} public-groups", "", *listed, "", ":::", ""]
    every = "Everything, and {ref}`each name in the alphabet <genindex>`:"
    index = "\n".join([words.rstrip(), "", *table, "", every, *groups_of_names])
    return {"api": index, **pages}


def readable_types(page: str) -> str:
    """A page in which a type has its name, not what the name stands for.

    Example:
        >>> buffer = "numpy._typing._array_like._Buffer"
        >>> nested = "numpy._typing._nested_sequence._NestedSequence"
        >>> readable_types(f"{buffer} | {nested}[complex | bytes | str] | None")
        'ArrayLike | None'
    """
    return _ARRAY_LIKE.sub("ArrayLike", page)


def public_names(root: Path) -> str:
    """A table of what ``import vgpo`` offers: name, first line, equation."""
    code = ast.parse((root / "vgpo" / "__init__.py").read_text(encoding="utf-8"))
    [home] = [
        ast.literal_eval(node.value)
        for node in code.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME"
    ]
    rows = ["| `vgpo.` | what it is or does | Eq. |", "|---|---|---|"]
    for name, module in home.items():
        kind, line, equation = _described(root, module, name)
        rows.append(f"| {{py:{kind}}}`~{module}.{name}` | {line} | {equation} |")
    return "\n".join(rows)


def _described(root: Path, module: str, name: str) -> tuple[str, str, str]:
    """Role, first line and equation of a definition, from its docstring."""
    file = root / Path(*module.split(".")).with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            text = ast.get_docstring(node) or ""
            line = text.split("\n\n")[0].replace("\n", " ").replace("|", r"\|")
            found = _EQUATION.search(line)
            line = re.sub(r"\s*\(Eq\. [\d\-, ]+\)", "", line)
            line = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", line).replace("``", "`")
            kind = "class" if isinstance(node, ast.ClassDef) else "func"
            return kind, line, found[1] if found else ""
    raise BuildError(f"{module} does not define {name}, which vgpo/__init__.py offers")


def write_pages(root: Path, staged: Path) -> None:
    """Index and pages in place of ``book/api.md``, here and in the contents."""
    file = staged / f"{PAGE}.md"
    if not file.exists():
        return
    pages = split(file.read_text(encoding="utf-8"), public_names(root))
    for name, text in pages.items():
        (staged / "book" / f"{name}.md").write_text(text, encoding="utf-8")
    contents = staged / "book" / "_toc.yml"
    text = contents.read_text(encoding="utf-8")

    def with_sections(entry: re.Match[str]) -> str:
        under = [f"{entry[1]}  sections:"] + [
            f"{entry[1]}    - file: book/{name}" for name in list(pages)[1:]
        ]
        return "\n".join([entry[0], *under])

    entry = re.compile(rf"^( *)- file: {PAGE}$", re.MULTILINE)
    contents.write_text(entry.sub(with_sections, text), encoding="utf-8")
