"""The loop of a training: steps, and the hooks around them."""

from __future__ import annotations

import contextlib
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence

import tensorflow as tf

from tfdetect.data.training.input import input_errors
from tfdetect.data.training.records import training_records
from tfdetect.errors import InputError
from tfdetect.training.events import LOG
from tfdetect.training.hooks.base import Hook, TrainingState
from tfdetect.training.schedule import learning_rate

_logger = logging.getLogger("tfdetect.train")

Batch = Mapping[str, tf.Tensor]


class _HookFailed(Exception):
    """A hook of the user's raised something.

    Attributes:
        done: the iterations that are done.
    """

    def __init__(self, message: str, done: int):
        super().__init__(message)
        self.done = done


class Loop:
    """Takes steps to SOLVER.MAX_ITER, or until a hook stops it, and calls hooks around them."""

    def __init__(
        self,
        state: TrainingState,
        step: Callable[[Batch, int], Mapping[str, float]],
        hooks: Sequence[Hook],
        user_hooks: Sequence[Hook],
        *,
        save: Callable[[TrainingState, int], None],
        advice: Callable[[], str],
    ):
        """Nothing is called yet.

        Args:
            state: for the hooks; this keeps it up to date.
            step: takes batch and iteration, returns the losses by name; a `Trainer`.
            hooks: the built-in ones, which come first.
            user_hooks: whose errors must not cost what was trained.
            save: writes a checkpoint of so many iterations.
            advice: what to do when training has failed.
        """
        self.state = state
        self._step = step
        self._hooks = list(hooks)
        self._user_hooks = list(user_hooks)
        self._save = save
        self._advice = advice

    def run(self, batches: Iterable[Batch]) -> None:
        """Train.

        Raises:
            InputError: a batch cannot be read, a loss is not finite, or a hook failed. Where that
                is a hook of the user's, the iterations done are in a checkpoint.
        """
        state = self.state
        try:
            self._call("before_train", state.start)
            self._take_steps(batches)
            state.finished = True
        except _HookFailed as error:
            message = f"{error}{self._rescue(error.done)}"
            self._end_unfinished((*self._hooks, *self._user_hooks))
            raise InputError(message) from error
        except BaseException:
            self._end_unfinished((*self._hooks, *self._user_hooks))
            raise
        try:
            self._call_built_in("after_train")
        except BaseException:
            state.finished = False
            self._end_unfinished(self._user_hooks)
            raise
        try:
            self._call_user("after_train", state.iteration)
        except _HookFailed as error:
            raise InputError(f"{error}; the model is saved, correct the hook") from error

    def _take_steps(self, batches: Iterable[Batch]) -> None:
        state = self.state
        waiting = iter(batches)
        while state.iteration < state.max_iter and state.stop_reason is None:
            iteration = state.iteration
            self._call("before_step", iteration)
            began = time.perf_counter()
            with input_errors():
                batch = next(waiting)
            data_seconds = time.perf_counter() - began
            losses = self._step(batch, iteration)
            self._check(iteration, losses, batch)
            state.batch = batch
            state.metrics = {
                "total_loss": sum(losses.values()),
                **losses,
                "time": time.perf_counter() - began,
                "data_time": data_seconds,
                "lr": learning_rate(state.cfg, iteration),
            }
            self._call("after_step", iteration + 1)
            state.iteration += 1
        if state.stop_reason is not None and state.workers.index == 0:
            _logger.info("ends after %d iterations: %s", state.iteration, state.stop_reason)

    def _call(self, moment: str, done: int) -> None:
        self._call_built_in(moment)
        self._call_user(moment, done)

    def _call_built_in(self, moment: str) -> None:
        for hook in self._hooks:
            getattr(hook, moment)(self.state)

    def _call_user(self, moment: str, done: int) -> None:
        for hook in self._user_hooks:
            try:
                getattr(hook, moment)(self.state)
            except Exception as error:
                raise _HookFailed(self._describe(hook, moment, error), done) from error

    def _end_unfinished(self, hooks: Sequence[Hook]) -> None:
        """Call their after_train, as Detectron2 does; errors of it are logged."""
        for hook in hooks:
            try:
                hook.after_train(self.state)
            except Exception as error:
                _logger.error("%s", self._describe(hook, "after_train", error))

    def _describe(self, hook: Hook, moment: str, error: Exception) -> str:
        """One line on an error of a hook; the traceback goes to the log file."""
        state = self.state
        lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        if state.workers.index == 0:
            with contextlib.suppress(OSError), (state.folder / LOG).open("a") as file:
                file.write(lines)
        reason = " ".join(str(getattr(error, "message", error)).split())
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        return (
            f"hook {type(hook).__name__}: {moment} failed at iteration {state.iteration} "
            f"({kind}{reason}; {state.folder / LOG} has the traceback)"
        )

    def _rescue(self, done: int) -> str:
        """Save what was trained since the last checkpoint; the end of a message that says so."""
        if done == self.state.start:
            return "; correct the hook"
        try:
            self._save(self.state, done)
        except Exception as error:
            return f"; no checkpoint could be saved after it ({error})"
        return f"; {done} iterations are saved, correct the hook and continue with --resume"

    def _check(self, iteration: int, losses: Mapping[str, float], batch: Batch) -> None:
        """Raise InputError if a loss is not finite."""
        if all(math.isfinite(loss) for loss in losses.values()):
            return
        records = training_records(self.state.cfg)
        files = [records[index].file_name for index in batch["record"].numpy()]
        values = ", ".join(f"{name}={loss:.4g}" for name, loss in losses.items())
        raise InputError(
            f"iteration {iteration}: a loss is not finite ({values}) on the images "
            f"{', '.join(files)}; {self._advice()}"
        )
