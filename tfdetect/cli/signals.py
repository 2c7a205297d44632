"""Ctrl-C and `kill` in a command: unfinished files are removed, and the exit status is Unix's."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from tfdetect.interrupts import postpone

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_SAME_SECONDS = 1.0
"""A signal this soon after another is the same one: `timeout` sends it to the process and to its
group, and a shell to all of a pipeline."""


class Interrupted(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP was received; the text, if any, says what was done and what was
    not.

    Attributes:
        number: of the signal.
        status: the exit status for it, as a shell has it: 128 + the signal's number.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = number
        self.status = 128 + number


class _Interrupts:
    """What a process does when one of the signals arrives."""

    def __init__(self) -> None:
        self._process = 0
        self._terminal = 2
        self._last = -_SAME_SECONDS

    def catch(self) -> None:
        if self._process or threading.current_thread() is not threading.main_thread():
            return
        self._process = os.getpid()
        # stderr may be held back when the signal arrives.
        self._terminal = os.dup(2)
        for number in _SIGNALS:
            # What the parent has this process ignore (nohup, a shell's background) stays ignored.
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._arrived)
        self._unraisable_before, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self._uncaught_before, sys.excepthook = sys.excepthook, self._uncaught
        # Functions registered here run in the opposite order: this one after all of a library's.
        atexit.register(self._end)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked
            os._exit(128 + number)
        now = time.monotonic()
        if now - self._last < _SAME_SECONDS:
            return
        self._last = now
        interrupt = Interrupted(number)
        if postpone(interrupt):
            return
        if not threading.main_thread().is_alive():  # the interpreter is ending
            os._exit(128 + number)
        elif not _imports(frame):
            raise interrupt
        # Libraries handle an exception during an import in different ways: some continue without
        # the module.
        elif _work_has_begun():
            self._send_again(number)
        else:  # nothing is lost yet
            with contextlib.suppress(OSError):
                os.write(self._terminal, b"interrupted\n")
            os._exit(128 + number)

    def _end(self) -> None:
        # The interpreter's end gives signals their default action: the repeated one would kill the
        # process, whose status would then be another.
        if self._last > 0 and os.getpid() == self._process:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def _unraisable(self, unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            # It was raised in a destructor or a callback, from where it cannot spread.
            self._send_again(unraisable.exc_value.number)
        else:
            self._unraisable_before(unraisable)

    def _send_again(self, number: int) -> None:
        """Once more, when what is in the way may have ended."""
        self._last = -_SAME_SECONDS
        again = threading.Timer(0.05, signal.pthread_kill, [threading.main_thread().ident, number])
        again.daemon = True
        again.start()

    def _uncaught(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if isinstance(error, Interrupted):  # after the command's last line
            os._exit(error.status)
        self._uncaught_before(kind, error, trace)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _work_has_begun() -> bool:
    """Whether TensorFlow is loaded: what is imported later, such as the parts of a model, may be in
    the middle of something that is written. Before it, commands only check."""
    found = sys.modules.get("tensorflow")
    return found is not None and not getattr(found.__spec__, "_initializing", False)


_interrupts = _Interrupts()


def catch_interrupts() -> None:
    """From now on the signals raise `Interrupted` in the main thread; for commands alone.

    During an import, until TensorFlow is loaded, they end the process at once, since nothing is at
    stake; later they wait for its end.
    """
    _interrupts.catch()
