"""Convert, execute, freeze and render the book's notebooks.

``notebooks/NN_name.py`` is the reviewed source. Its twin ``NN_name.ipynb`` is
frozen: executed from top to bottom with its default parameters, then scrubbed of
everything that differs between two runs. Conversion goes one way only, from
``.py`` to ``.ipynb``.

Every file appears under its final name by one rename of a finished file, so a
failure or a kill at any moment leaves the earlier copy as it was.

One module a step: :mod:`convert` reads a source, :mod:`kernel` runs it with the
:mod:`parameters` chosen, :mod:`scrub` keeps what a reader needs of the run,
:mod:`execute` does this for all of them, :mod:`render` makes the pages, and
``book/build.py`` is the command line.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class BuildError(Exception):
    """Something the reader of the terminal can act on; shown without a traceback."""
