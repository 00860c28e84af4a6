"""Convert, execute, freeze and render the book's notebooks.

    python book/build.py execute [NAME ...]   run into _build/executed
    python book/build.py freeze  [NAME ...]   run, then replace notebooks/*.ipynb
    python book/build.py html [--executed]    render _build/html

The work is done in ``book/builder``, one module a step.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts this file's folder first; the package `book` lies one above.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from book.builder.__main__ import main

    sys.exit(main())
