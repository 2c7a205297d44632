"""What runs before and after training and its steps: the interface of hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yacs.config import CfgNode

from tfdetect.registry import Registry

if TYPE_CHECKING:
    import tensorflow as tf

    from tfdetect.training.devices import Workers
    from tfdetect.training.evaluation import Outcome
    from tfdetect.training.events import Events

HOOKS: Registry[Callable[..., Hook]] = Registry("hook")
"""What TRAIN.HOOKS may name: subclasses of `Hook`, or functions that make a hook of a
configuration; `@HOOKS.register()` adds one."""


@dataclass
class TrainingState:
    """What hooks see of a training. They may read all of it, and change the model's variables.

    Attributes:
        cfg: the configuration, frozen.
        model: with the weights that are trained.
        workers: this process among those that train together. Every worker calls every hook, in
            the same order; worker 0 is the one that writes files.
        folder: OUTPUT_DIR.
        events: `events.write(iteration, {"name": value})` adds a line to metrics.json and to every
            other writer; it does nothing in workers but the first.
        start: the first iteration of this run; not 0 for one that is resumed.
        max_iter: SOLVER.MAX_ITER.
        iteration: of the step that comes (before_step) or was taken (after_step), from 0;
            `start` in before_train; in after_train how many are done altogether.
        batch: this worker's part of the last batch, as `training_dataset` gives it.
        metrics: of the last step: `total_loss` and each loss by name, `lr`, and `time` and
            `data_time` in seconds. Empty before the first.
        evaluation: the last one of this run, with its iteration; None before the first.
        finished: in after_train, whether the training came to its end, early stop included; False
            when an error or an interruption ended it.
        stop_reason: of `stop`; None while the training goes on.
        evaluated_weights: a context within which the model has the weights that are evaluated and
            saved: the averaged ones with TRAIN.EMA, else those that are trained.
    """

    cfg: CfgNode
    model: tf.Module
    workers: Workers
    folder: Path
    events: Events
    start: int
    max_iter: int
    iteration: int
    batch: Mapping[str, tf.Tensor] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    evaluation: Outcome | None = None
    finished: bool = False
    stop_reason: str | None = None
    evaluated_weights: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

    def stop(self, reason: str) -> None:
        """End the training after this iteration as if it were the last; the log says why.

        With several workers every one must call it in the same iteration.
        """
        self.stop_reason = self.stop_reason or reason


class Hook:
    """Something to do at fixed moments of a training (Detectron2: `HookBase`).

    Hooks are called in order, the built-in ones first, in every moment. An exception in one that a
    user added ends the run with a line that names it, after what was trained is in a checkpoint.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Hook:
        """The hook that TRAIN.HOOKS asks for by name; override it to read the configuration."""
        return cls()

    def before_train(self, state: TrainingState) -> None:
        """Before the first step of this run, after weights and optimizer are as they start."""

    def before_step(self, state: TrainingState) -> None:
        """Before each step, and before its batch is waited for: `state.batch` and
        `state.metrics` are those of the step before."""

    def after_step(self, state: TrainingState) -> None:
        """After each step, when the built-in hooks have written, saved and evaluated what this
        iteration asked for."""

    def after_train(self, state: TrainingState) -> None:
        """In the end, when model_final is saved and evaluated; also after an error or an
        interruption, with `state.finished` False."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to know, as JSON takes it; saved with each checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, in a training that resumes, before before_train."""
