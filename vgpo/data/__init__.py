"""Rows of questions, answers and pictures, checked when they are loaded."""

from typing import TYPE_CHECKING

from vgpo.data.catalogue import CATALOGUE, SUITES, describe
from vgpo.data.loading import load_rows
from vgpo.data.prompts import BadRow, find_bad_rows, to_prompts
from vgpo.data.questions import Questions, load_questions
from vgpo.data.splits import PROMPT_SUFFIX, TESTBED
from vgpo.lazy import parts_of
from vgpo.pictures import open_picture

__all__ = [
    "CATALOGUE",
    "PROMPT_SUFFIX",
    "SUITES",
    "TESTBED",
    "BadRow",
    "Questions",
    "describe",
    "find_bad_rows",
    "load_questions",
    "load_rows",
    "open_picture",
    "to_prompts",
]

if not TYPE_CHECKING:  # a checker knows modules by their imports
    __getattr__ = parts_of(__name__)
