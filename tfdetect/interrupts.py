"""Work that a Ctrl-C must not cut in two."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_holders = 0
_waiting: KeyboardInterrupt | None = None


@contextlib.contextmanager
def hold_interrupts() -> Iterator[None]:
    """What is done within it is done whole: an interrupt that is postponed is raised at its end.

    It installs no handler. The commands' handlers ask `postpone`; in a program that has others, or
    Python's own, signals arrive as ever.
    """
    global _holders, _waiting
    _holders += 1
    try:
        yield
    finally:
        _holders -= 1
        if not _holders and _waiting is not None:
            interrupt, _waiting = _waiting, None
            raise interrupt


def postpone(interrupt: KeyboardInterrupt) -> bool:
    """For signal handlers: have `hold_interrupts` raise this; False if nothing is being held."""
    global _waiting
    if _holders:
        _waiting = interrupt
    return _holders > 0
