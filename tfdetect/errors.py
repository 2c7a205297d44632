"""The error that a user can act on."""

from __future__ import annotations


class InputError(Exception):
    """Something given from outside (a file, a key, an option) cannot be used.

    The message is one line that names the file or key and says what to do about it. Commands
    print it on stderr and exit with status 2; library callers may catch it.
    """
