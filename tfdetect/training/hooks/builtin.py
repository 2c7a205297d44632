"""What a training does after iterations and in its end, as hooks; run.py has their order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tfdetect.config.tta import describe_tta
from tfdetect.errors import InputError
from tfdetect.training.checkpoints import Checkpoints, Progress
from tfdetect.training.evaluation import Outcome
from tfdetect.training.hooks.base import Hook, TrainingState
from tfdetect.training.pictures import Pictures
from tfdetect.training.precise_bn import PreciseStatistics
from tfdetect.training.writers import read_metric

_logger = logging.getLogger("tfdetect.train")


class PeriodicWriter(Hook):
    """Hands each iteration's numbers to the writers, the log and the bar."""

    def after_step(self, state: TrainingState) -> None:
        state.events.add(state.iteration, state.metrics)

    def after_train(self, state: TrainingState) -> None:
        if state.finished:  # not at SOLVER.MAX_ITER where a hook ended it
            state.events.flush(state.iteration - 1)


class PicturesHook(Hook):
    """VIS_PERIOD: shows the writers a picture of the batch; for the first worker."""

    def __init__(self, pictures: Pictures, period: int):
        self._pictures = pictures
        self._period = period

    def after_step(self, state: TrainingState) -> None:
        if _is_due(state.iteration + 1, self._period) and state.batch is not None:
            with state.evaluated_weights():
                drawn = self._pictures(state.batch)
            state.events.add_image(state.iteration, "ground truth | predictions", drawn)


class PreciseBN(Hook):
    """TEST.PRECISE_BN: sets statistics before an evaluation and the checkpoint of its iteration.

    With TRAIN.EMA they are those of the averaged weights.
    """

    def __init__(self, statistics: PreciseStatistics, checkpoints: Checkpoints):
        self._statistics = statistics
        self._checkpoints = checkpoints
        self._computed = -1

    def after_step(self, state: TrainingState) -> None:
        done = state.iteration + 1
        if done < state.max_iter and _is_due(done, state.cfg.TEST.EVAL_PERIOD):
            self._compute(state, done)

    def after_train(self, state: TrainingState) -> None:
        done = state.iteration
        if state.finished and self._computed != done and not self._checkpoints.has_final(done):
            self._compute(state, done)

    def _compute(self, state: TrainingState, done: int) -> None:
        with state.evaluated_weights():
            self._statistics(done)
        self._computed = done


class PeriodicCheckpointer(Hook):
    """Saves a checkpoint every SOLVER.CHECKPOINT_PERIOD iterations, and in the end model_final."""

    def __init__(
        self, checkpoints: Checkpoints, seed: int, state_dicts: Callable[[], dict[str, dict]]
    ):
        """Nothing is written yet.

        Args:
            checkpoints: in OUTPUT_DIR.
            seed: of the training.
            state_dicts: of the hooks that have something to save, by their names.
        """
        self._checkpoints = checkpoints
        self._seed = seed
        self._state_dicts = state_dicts
        self._saved = -1

    def after_step(self, state: TrainingState) -> None:
        done = state.iteration + 1
        if done < state.max_iter and _is_due(done, state.cfg.SOLVER.CHECKPOINT_PERIOD):
            self.save(state, done)

    def after_train(self, state: TrainingState) -> None:
        if state.finished and not self._checkpoints.has_final(state.iteration):
            self.save(state, state.iteration, final=True)

    def save(self, state: TrainingState, done: int, final: bool = False) -> None:
        """Save what has come of `done` iterations, unless this has.

        Raises:
            InputError: see `Checkpoints.save`.
        """
        if self._saved == done and not final:
            return
        progress = Progress(done, self._seed, self._state_dicts())
        with state.evaluated_weights():
            path = self._checkpoints.save(progress, final=final)
        self._saved = done
        if state.workers.index == 0:
            _logger.info("saved %s", path)


class EvalHook(Hook):
    """Evaluates every TEST.EVAL_PERIOD iterations and in the end.

    Attributes:
        failed: whether an evaluation during training did; the training goes on all the same.
    """

    def __init__(self, evaluation: Callable[[], Outcome], *, needed: Sequence[str] = ()):
        """Nothing is evaluated yet.

        Args:
            evaluation: an `Evaluation`.
            needed: metrics that later hooks compare: a training that resumes makes up for the
                evaluation after its checkpoint if it was due and they are not in metrics.json.
        """
        self._evaluation = evaluation
        self._needed = tuple(needed)
        self.failed = False

    def before_train(self, state: TrainingState) -> None:
        start = state.start
        if not 0 < start < state.max_iter or not _is_due(start, state.cfg.TEST.EVAL_PERIOD):
            return
        known = [start - 1 in read_metric(state.folder, start, name) for name in self._needed]
        # The first worker's file tells all of them.
        if state.workers.gather([str(all(known))])[0] != str(True):
            self._evaluate_on_the_way(state, start - 1)

    def after_step(self, state: TrainingState) -> None:
        done = state.iteration + 1
        if done < state.max_iter and _is_due(done, state.cfg.TEST.EVAL_PERIOD):
            self._evaluate_on_the_way(state, state.iteration)

    def after_train(self, state: TrainingState) -> None:
        last, before = state.iteration - 1, state.evaluation
        known = before is not None and before.iteration == last and not before.errors
        if state.finished and not known:
            self._evaluate(state, last)

    def _evaluate_on_the_way(self, state: TrainingState, iteration: int) -> None:
        # Its errors must not lose the progress since the last checkpoint.
        self.failed |= bool(self._evaluate(state, iteration).errors)

    def _evaluate(self, state: TrainingState, iteration: int) -> Outcome:
        outcome = _evaluate(self._evaluation, state, iteration)
        state.evaluation = outcome
        return outcome


class TTAEvalHook(Hook):
    """Evaluates with test-time augmentation in the end, after the evaluation without.

    The metrics join those of that one. Detectron2: `test_with_TTA` of tools/train_net.py.
    """

    def __init__(self, evaluation: Callable[[], Outcome]):
        """`evaluation` is an `Evaluation` with test-time augmentation."""
        self._evaluation = evaluation

    def after_train(self, state: TrainingState) -> None:
        if not state.finished:
            return
        if state.workers.index == 0:
            _logger.info("%s", describe_tta(state.cfg))
        outcome = _evaluate(self._evaluation, state, state.iteration - 1)
        plain = state.evaluation or Outcome()
        state.evaluation = Outcome(
            plain.metrics | outcome.metrics, plain.errors + outcome.errors, outcome.iteration
        )


def _evaluate(evaluation: Callable[[], Outcome], state: TrainingState, iteration: int) -> Outcome:
    """The outcome, with an error of any kind in it, and what it says for the writers."""
    try:
        with state.evaluated_weights():
            outcome = evaluation()
    except Exception as error:  # as the network needs more memory than there is
        reason = str(getattr(error, "message", error)).strip().partition("\n")[0]
        failure = InputError(f"evaluation failed ({type(error).__name__}: {reason})")
        _logger.error("%s", failure)
        outcome = Outcome(errors=[failure])
    outcome.iteration = iteration
    if outcome.metrics:
        state.events.write(iteration, outcome.metrics)
    return outcome


def _is_due(done: int, period: int) -> bool:
    return period > 0 and done % period == 0
