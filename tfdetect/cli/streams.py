"""stdout and stderr of a command that print any text and outlive a closed pipe."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

_GONE = (errno.EPIPE, errno.EIO)
"""The reader is gone: a pipe's reader, a terminal."""


class _Output(io.FileIO):
    """A descriptor; output that cannot be written is dropped, and so is everything after it."""

    failure: OSError | None = None
    gone = False

    def write(self, data) -> int | None:  # type: ignore[no-untyped-def, override]
        if self.gone:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                self.failure = error
            self.gone = True
            return len(data)


def protect_streams() -> None:
    """Make stdout and stderr print as much as possible, and never raise.

    - What the terminal's encoding does not have, and the bytes of a file name that are not UTF-8,
      are printed as escapes such as \\xfc and \\udcff.
    - When the reader of a pipe exits (`| head`), the rest is not printed, and the work continues.
    - A stream that was closed when the command started (`>&-`) is as /dev/null; the files that are
      opened later must not take its number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    # If they have been replaced already (by pytest, for example), leave them alone.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _protected(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _protected(sys.stderr, 2)


def _protected(stream: TextIO | None, number: int) -> TextIO:
    if stream is not None:
        stream.flush()
    output = io.BufferedWriter(_Output(number, "w", closefd=False))
    return io.TextIOWrapper(
        output,
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=getattr(stream, "line_buffering", True),
    )


def output_failure() -> OSError | None:
    """The error that lost some output although its reader still existed; None if nothing was
    lost."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            raw = getattr(stream.buffer, "raw", None)
            if isinstance(raw, _Output) and raw.failure is not None:
                return raw.failure
    return None
