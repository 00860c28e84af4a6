"""Modules of a folder as its attributes, loaded on first use.

``import vgpo`` costs nothing, and ``vgpo.stats.seeds`` works right after it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

TRAINING_LIBRARIES = ("trl", "peft", "bitsandbytes")
"""What ``pip install 'vgpo[train]'`` brings, and no plain installation has."""

_SPEAKS_ON_IMPORT = logging.getLogger("bitsandbytes.backends.cpu.ops")
"""Says on many CPUs that a kernel of a package nobody asked for was not loaded."""


def _is_not_about_a_kernel(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in record.getMessage()


@contextmanager
def training_libraries(needed_by: str, as_program: bool = False) -> Iterator[None]:
    """Around imports that need them: says what to install where one is missing.

    PEFT imports bitsandbytes, which asks for a faster kernel of another package and
    warns that it is not there. Everything works without, so that line is left out.

    Args:
        needed_by: Who imports, for the message.
        as_program: Whether it was started by ``python -m``: then the message is all
            that is printed, with status 1.

    Raises:
        ModuleNotFoundError: One of :data:`TRAINING_LIBRARIES` is missing.
        SystemExit: The same in a program.

    Example:
        >>> with training_libraries("this example"):
        ...     import peft
    """
    _SPEAKS_ON_IMPORT.addFilter(_is_not_about_a_kernel)
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in TRAINING_LIBRARIES:
            raise
        said = (
            f"{needed_by} trains on top of {error.name}, which is not installed: "
            "pip install 'vgpo[train]', or pip install -e '.[train]' in a checkout."
        )
        if as_program:
            raise SystemExit(said) from error
        raise ModuleNotFoundError(said, name=error.name) from error
    finally:
        _SPEAKS_ON_IMPORT.removeFilter(_is_not_about_a_kernel)


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
