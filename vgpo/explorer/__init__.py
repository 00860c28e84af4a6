"""Views to touch: one self-contained piece of HTML each.

A view carries its data, pictures, styles and script inside. It asks nothing of a
network, so it works in a notebook, in a page of the book, in a file sent by mail, and
in ten years. Plain arrays, strings and pictures come in; no model is known here.
"""

from typing import TYPE_CHECKING

from vgpo.explorer.curves import curves_view
from vgpo.explorer.group import group_view
from vgpo.explorer.page import View
from vgpo.explorer.tokens import Answer, token_view
from vgpo.lazy import parts_of

__all__ = ["Answer", "View", "curves_view", "group_view", "token_view"]

if not TYPE_CHECKING:  # a checker knows modules by their imports
    __getattr__ = parts_of(__name__)
