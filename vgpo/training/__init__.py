"""GRPO, DAPO, VGPO and their neighbours on top of TRL's trainer."""

from typing import TYPE_CHECKING

from vgpo.lazy import parts_of

if not TYPE_CHECKING:  # a checker knows modules by their imports
    __getattr__ = parts_of(__name__)
