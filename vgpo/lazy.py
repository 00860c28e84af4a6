"""Modules of a folder as its attributes, loaded on first use.

``import vgpo`` costs nothing, and ``vgpo.stats.seeds`` works right after it.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def parts_of(package: str) -> Callable[[str], ModuleType]:
    """What a package's ``__getattr__`` is to be, so that its modules are found.

    Args:
        package: Its full name, ``__name__`` in its own file.

    Returns:
        A function from a module's name to the module, which is imported. It raises
        ``AttributeError`` where there is no such module, and passes on whatever an
        import that fails raises.

    Example:
        >>> parts_of("vgpo")("files").__name__
        'vgpo.files'
    """

    def part(name: str) -> ModuleType:
        full = f"{package}.{name}"
        # Python itself asks for names with underscores, and no module here has one.
        if name.startswith("_") or find_spec(full) is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return import_module(full)

    return part
