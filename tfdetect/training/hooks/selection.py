"""Hooks that compare evaluations: the best checkpoint, and early stop."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.training.checkpoints import BEST, BEST_RECORD, Checkpoints
from tfdetect.training.evaluation import Outcome
from tfdetect.training.hooks.base import Hook, TrainingState
from tfdetect.training.writers import read_metric

_logger = logging.getLogger("tfdetect.train")


class _Best:
    """The best value of a metric; NaN is better than nothing and worse than all."""

    def __init__(self, section: CfgNode):
        self.metric: str = section.METRIC
        self._sign = 1 if section.MODE == "max" else -1
        self.value = math.nan

    def improves(self, value: float) -> bool:
        """Take note of a value; whether it is better than all before."""
        better = not math.isnan(value) and (
            math.isnan(self.value) or self._sign * value > self._sign * self.value
        )
        if better:
            self.value = value
        return better

    def find(self, outcome: Outcome, key: str) -> float:
        """The metric of an evaluation; NaN if there was nothing to compute its task's from.

        Raises:
            InputError: it has no such metric.
        """
        task = self.metric.rpartition("/")[0]
        values = [v for name, v in outcome.metrics.items() if name.rpartition("/")[0] == task]
        if self.metric not in outcome.metrics and not all(map(math.isnan, values)):
            raise InputError(
                f"{key}: the evaluation gives no {self.metric!r}; give one of "
                f"{', '.join(outcome.metrics)}"
            )
        return outcome.metrics.get(self.metric, math.nan)


class BestCheckpointer(Hook):
    """TRAIN.BEST: keeps the model of the best evaluation in `model_best`.

    It is a model directory with `best.json` beside, {"metric", "value", "iteration"}, by which a
    training that resumes goes on comparing. Detectron2: `BestCheckpointer`.
    """

    def __init__(self, cfg: CfgNode, checkpoints: Checkpoints):
        self._best = _Best(cfg.TRAIN.BEST)
        self._checkpoints = checkpoints
        self._seen: Outcome | None = None

    def before_train(self, state: TrainingState) -> None:
        record = _read_record(state.folder / BEST / BEST_RECORD) if state.start > 0 else None
        if record is not None and record[0] == self._best.metric:
            self._best.improves(record[1])
        self._compare(state)  # with an evaluation that was made up for

    def after_step(self, state: TrainingState) -> None:
        self._compare(state)

    def after_train(self, state: TrainingState) -> None:
        if state.finished:
            self._compare(state)

    def _compare(self, state: TrainingState) -> None:
        outcome, best = state.evaluation, self._best
        if outcome is None or outcome is self._seen or not outcome.metrics:
            return
        self._seen = outcome
        if best.improves(best.find(outcome, "TRAIN.BEST.METRIC")):
            record = {
                "metric": best.metric,
                "value": best.value,
                "iteration": outcome.iteration,
            }
            with state.evaluated_weights():
                path = self._checkpoints.save_best(record)
            if state.workers.index == 0:
                _logger.info("saved %s: %s is %.4g", path, best.metric, best.value)


class EarlyStopping(Hook):
    """TRAIN.EARLY_STOP: ends the training after PATIENCE evaluations without a better METRIC.

    A training that resumes takes the evaluations before from metrics.json, so that it ends where
    one without interruption does. Evaluations that failed do not count.
    """

    def __init__(self, cfg: CfgNode):
        self._best = _Best(cfg.TRAIN.EARLY_STOP)
        self._patience = cfg.TRAIN.EARLY_STOP.PATIENCE
        self._waited = 0
        self._seen: Outcome | None = None

    def before_train(self, state: TrainingState) -> None:
        for value in read_metric(state.folder, state.start, self._best.metric).values():
            self._count(value)
        self._seen = state.evaluation
        self._decide(state)

    def after_step(self, state: TrainingState) -> None:
        outcome = state.evaluation
        if outcome is None or outcome is self._seen:
            return
        self._seen = outcome
        if outcome.metrics:
            self._count(self._best.find(outcome, "TRAIN.EARLY_STOP.METRIC"))
        self._decide(state)

    def _count(self, value: float) -> None:
        self._waited = 0 if self._best.improves(value) else self._waited + 1

    def _decide(self, state: TrainingState) -> None:
        # One worker's evaluation may have failed: the first one's count is everyone's.
        (waited, *_) = state.workers.gather([str(self._waited)])
        if int(waited) >= self._patience:
            state.stop(
                f"{self._best.metric} has not been better than {self._best.value:.4g} in"
                f" {waited} evaluations (TRAIN.EARLY_STOP)"
            )


def _read_record(path: Path) -> tuple[str, float] | None:
    """(metric, value); None where there is no record.

    Raises:
        InputError: it cannot be read.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["metric"]), float(content["value"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is not a record of a best checkpoint ({error}); remove its folder"
        ) from error
