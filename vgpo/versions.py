"""Which releases of libraries are installed, for records."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


def installed_versions(names: Iterable[str]) -> dict[str, str | None]:
    """Versions of libraries by name; None for what is not installed, as this package
    itself is not where it is run from a checkout.

    Example:
        >>> installed_versions(["no-such-library"])
        {'no-such-library': None}
    """
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
