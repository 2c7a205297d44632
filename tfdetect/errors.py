"""Errors that a person can act on, and how a command reports them."""

from __future__ import annotations

import sys
from collections.abc import Callable


class InputError(Exception):
    """Something given from outside (a file, a key, an option) cannot be used.

    The message is one line that names the file or key and says what to do about it. Commands
    print it on stderr and exit with status 2; library callers may catch it.
    """


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit with its status; an `InputError` is one line and status 2."""
    try:
        status = main()
    except InputError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    sys.exit(status or 0)
