"""TensorFlow does not survive a fork: raises an error instead of hanging."""

from __future__ import annotations

import os
import sys

from tfdetect.errors import InputError

_runs = False
_lost = False


def tensorflow_runs() -> None:
    """Say that this process has TensorFlow's threads, which a fork leaves behind."""
    global _runs
    _runs = True


def require_no_fork() -> None:
    """Raise InputError in a process that was forked from one in which TensorFlow ran."""
    if _lost:
        raise InputError(
            "Predictor: this process was forked from one in which TensorFlow ran, and it "
            "does not survive a fork; create it in the worker (gunicorn without --preload), or "
            "start workers with multiprocessing.get_context('spawn')"
        )


def _after_fork() -> None:
    global _lost
    # Its own word for it, where this version has it: TensorFlow may have run without a Predictor.
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    _lost = _runs or bool(getattr(context, "_initialized", False))


os.register_at_fork(after_in_child=_after_fork)
