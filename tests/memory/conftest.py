"""What the tests of the calculator share: a browser, if there is one."""

from tests.explorer.browser import browser

__all__ = ["browser"]
