"""The pages: Jupyter Book over a staged copy, every warning an error."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from book.builder import BuildError
from book.builder.api import readable_types, write_pages
from book.builder.bars import one_bar
from book.builder.example import with_example
from book.builder.fields import readable_fields
from book.builder.house import fill
from book.builder.inline import inline
from book.builder.labels import with_labels, with_ledgers
from book.builder.lines import whole_lines
from book.builder.scrub import ANSI
from book.builder.spacing import unbroken
from book.builder.tables import readable
from book.builder.verdicts import with_verdicts

PLACEHOLDER = "your--account"
"""Of the repository's address in ``_config.yml``, until a copy is published."""


def config(text: str) -> str:
    """The book's settings, without buttons that would lead nowhere.

    Colab, Binder and repository buttons are made from the repository's address; as
    long as it is nobody's, they are left out.

    Example:
        >>> print(config("repository: {url: 'https://github.com/a/b'}"))
        repository: {url: 'https://github.com/a/b'}
    """
    settings = yaml.safe_load(text)
    if PLACEHOLDER not in settings.get("repository", {}).get("url", ""):
        return text
    settings.pop("launch_buttons", None)
    for name in settings["html"]:
        if name.startswith("use_") and name.endswith("_button"):
            settings["html"][name] = False
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def listed_notebooks(root: Path) -> list[str]:
    """Stems of the notebooks in the table of contents, in its order."""
    contents = (root / "book" / "_toc.yml").read_text(encoding="utf-8")
    return re.findall(r"\bnotebooks/(\w+)", contents)


def stage(root: Path, notebooks: Path, folder: Path) -> None:
    """Copy what the book is made of, with the notebooks of one folder, and draw the
    generated parts of its pages."""
    shutil.copytree(
        root / "book", folder / "book", ignore=shutil.ignore_patterns("__pycache__")
    )
    for page in (folder / "book").glob("*.md"):
        text = with_example(fill(page.read_text(encoding="utf-8"), root))
        page.write_text(text, encoding="utf-8")
    write_pages(root, folder)
    settings = (root / "_config.yml").read_text(encoding="utf-8")
    (folder / "_config.yml").write_text(config(settings), encoding="utf-8")
    (folder / "notebooks").mkdir()
    frozen = notebooks == root / "notebooks"
    for name in listed_notebooks(root):
        notebook = notebooks / f"{name}.ipynb"
        if not notebook.exists():
            cure = f"`make freeze NOTEBOOK={name}` makes it" if frozen else "execute it"
            raise BuildError(f"{notebook.relative_to(root)} is missing: {cure}")
        shutil.copy2(notebook, folder / "notebooks")


def finish(pages: Path) -> None:
    """Drawings into the pages of a built book, its tables made readable, its hidden
    cells under one bar, its claims to be had by verdict, its ledgers with the names of
    their columns, its code in lines that break where the page ends, types beside what
    they are of, and its lines kept from ending within "95 %"."""
    for path in pages.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        finished = readable_fields(readable_types(page))
        finished = inline(unbroken(finished), path.parent)
        finished = one_bar(readable(finished))
        finished = with_labels(with_ledgers(with_verdicts(finished)))
        finished = whole_lines(finished)
        if finished != page:
            path.write_text(finished, encoding="utf-8")


def html(root: Path, *, notebooks: Path, out: Path) -> None:
    """Render the pages, treating every warning as an error.

    Args:
        root: The repository.
        notebooks: The folder of executed notebooks to show.
        out: The folder of pages; replaced only by a build without warnings.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix="stage-") as scratch:
        staged = Path(scratch) / "source"
        staged.mkdir()
        stage(root, notebooks, staged)
        command = [
            *(sys.executable, "-c", "from jupyter_book.cli.main import main; main()"),
            *("build", str(staged)),
            *("--toc", str(staged / "book" / "_toc.yml")),
            *(
                "--path-output",
                str(Path(scratch).resolve()),
                "-W",
                "--keep-going",
                "-n",
                "-q",
            ),
        ]
        # Run from the root, the API page documents the package that lies there.
        result = subprocess.run(
            command, cwd=root, text=True, capture_output=True, check=False
        )
        if result.returncode:
            log = ANSI.sub("", result.stdout + result.stderr).replace(f"{staged}/", "")
            raise BuildError(f"the pages were not built:\n\n{log.strip()}")
        finish(Path(scratch) / "_build" / "html")
        earlier = Path(scratch) / "earlier"
        if out.exists():
            out.replace(earlier)
        (Path(scratch) / "_build" / "html").replace(out)
