"""Rows of questions, answers and pictures, checked when they are loaded."""

from vgpo.data.loading import PROMPT_SUFFIX, TESTBED, load_rows
from vgpo.data.prompts import BadRow, find_bad_rows, to_prompts
from vgpo.pictures import open_picture

__all__ = [
    "PROMPT_SUFFIX",
    "TESTBED",
    "BadRow",
    "find_bad_rows",
    "load_rows",
    "open_picture",
    "to_prompts",
]
