"""The error that a user can act on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class InputError(Exception):
    """Something given from outside (a file, a key, an option) cannot be used.

    The message is one line that names the file or key and says what to do about it. Commands
    print it on stderr and exit with status 2; library callers may catch it.
    """


def one_of(values: Iterable[Any]) -> str:
    """What to choose from, for a message: "a", "a or b", "a, b or c"; the empty text as ''."""
    *others, last = (str(value) or "''" for value in values)
    return f"{', '.join(others)} or {last}" if others else last
