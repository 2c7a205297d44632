"""Learning-rate schedules: the factor on the base learning rate, as a function of the iteration.

The meaning is that of Detectron2's `build_lr_scheduler`: a schedule is a function of the fraction
of training done, `iteration / max_iter`, preceded by a warm-up. The arithmetic is in double
precision and in the same order as there (fvcore's param_scheduler), because the ends of phases are
determined by comparing such fractions.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from yacs.config import CfgNode

from tfdetect.errors import InputError

# Added to a fraction before it is compared or turned back into an iteration, so that
# `iteration / max_iter`, which is rarely exact in binary, does not fall just short of a boundary.
_FRACTION_EPSILON = 1e-6

Schedule = Callable[[float], float]
"""The factor on SOLVER.BASE_LR, from the fraction of training that is done, in [0, 1)."""


def multistep_schedule(max_iter: int, steps: Sequence[int], gamma: float) -> Schedule:
    """SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR: times `gamma` from every one of `steps` on.

    Args:
        max_iter: SOLVER.MAX_ITER.
        steps: SOLVER.STEPS, rising iterations; those beyond `max_iter` never take effect.
        gamma: SOLVER.GAMMA.

    Raises:
        InputError: the steps are out of order.
    """
    milestones = list(steps)
    if milestones != sorted(milestones):
        raise InputError(f"SOLVER.STEPS: must be increasing, but it is {milestones}; correct it")

    def schedule(done: float) -> float:
        reached = int((done + _FRACTION_EPSILON) * max_iter)
        return gamma ** bisect_right(milestones, reached)

    return schedule


def cosine_schedule(end_factor: float) -> Schedule:
    """SOLVER.LR_SCHEDULER_NAME WarmupCosineLR: half a cosine from 1 down to `end_factor`.

    Args:
        end_factor: SOLVER.BASE_LR_END / SOLVER.BASE_LR, in [0, 1].

    Raises:
        InputError: it is outside.
    """
    if not 0.0 <= end_factor <= 1.0:
        raise InputError(
            f"SOLVER.BASE_LR_END: is {end_factor} times SOLVER.BASE_LR; give 0 to 1 times that"
        )

    def schedule(done: float) -> float:
        return end_factor + 0.5 * (1 - end_factor) * (math.cos(math.pi * done) + 1)

    return schedule


def step_schedule(num_decays: int, gamma: float) -> Schedule:
    """SOLVER.LR_SCHEDULER_NAME WarmupStepWithFixedGammaLR: times `gamma` after every equal part.

    Args:
        num_decays: SOLVER.NUM_DECAYS, one less than there are parts.
        gamma: SOLVER.GAMMA.

    Raises:
        InputError: `num_decays` is below 1, or `gamma` not above 0.
    """
    if num_decays < 1:
        raise InputError(f"SOLVER.NUM_DECAYS: is {num_decays}; give at least 1")
    if gamma <= 0:
        raise InputError(f"SOLVER.GAMMA: is {gamma}; give more than 0")

    def schedule(done: float) -> float:
        part = min(int((done + _FRACTION_EPSILON) * (num_decays + 1)), num_decays)
        return math.prod([gamma] * part)

    return schedule


def factor_at(
    iteration: int,
    schedule: Schedule,
    *,
    max_iter: int,
    warmup_factor: float,
    warmup_iters: int,
    warmup_method: str = "linear",
    rescale_interval: bool = False,
) -> float:
    """A schedule's factor at an iteration, with a warm-up before it.

    The warm-up starts at `warmup_factor` times the schedule's first value. "constant" stays there;
    "linear" rises to what the schedule gives where the warm-up ends. After it the schedule
    continues as if there had been no warm-up, or, with `rescale_interval`, is squeezed whole into
    the rest.

    Args:
        iteration: 0 for the first step of training.
        schedule: one of the above.
        max_iter, warmup_factor, warmup_iters, warmup_method, rescale_interval: the keys of SOLVER
            with these names.

    Raises:
        InputError: `warmup_method` is unknown.

    Detectron2: `WarmupParamScheduler`.
    """
    if warmup_method not in ("linear", "constant"):
        raise InputError(
            f"SOLVER.WARMUP_METHOD: {warmup_method!r} is not supported; use linear or constant"
        )
    done, length = iteration / max_iter, min(warmup_iters / max_iter, 1.0)
    if done + _FRACTION_EPSILON > length:
        return schedule((done - length) / (1 - length) if rescale_interval else done)
    start = warmup_factor * schedule(0.0)
    if warmup_method == "constant":
        return start
    end = schedule(0.0) if rescale_interval else schedule(length)
    progress = done / length
    return end * progress + start * (1 - progress)


def learning_rate(cfg: CfgNode, iteration: int) -> float:
    """The learning rate of an iteration, before the factors of single parameters.

    Args:
        cfg: SOLVER.
        iteration: 0 for the first step of training.

    Raises:
        InputError: an unknown SOLVER.LR_SCHEDULER_NAME, or values that make no schedule.
    """
    solver = cfg.SOLVER
    if solver.MAX_ITER < 1:
        raise InputError(f"SOLVER.MAX_ITER: is {solver.MAX_ITER}; give at least 1")
    if solver.BASE_LR < 0:
        raise InputError(f"SOLVER.BASE_LR: is {solver.BASE_LR}; give 0 or more")
    factor = factor_at(
        iteration,
        _schedule(cfg),
        max_iter=solver.MAX_ITER,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_method=solver.WARMUP_METHOD,
        rescale_interval=solver.RESCALE_INTERVAL,
    )
    return solver.BASE_LR * factor


def _schedule(cfg: CfgNode) -> Schedule:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        return multistep_schedule(solver.MAX_ITER, solver.STEPS, solver.GAMMA)
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        if solver.BASE_LR == 0:
            raise InputError("SOLVER.BASE_LR: is 0, which WarmupCosineLR cannot scale; give more")
        return cosine_schedule(solver.BASE_LR_END / solver.BASE_LR)
    if solver.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR":
        return step_schedule(solver.NUM_DECAYS, solver.GAMMA)
    raise InputError(
        f"SOLVER.LR_SCHEDULER_NAME: {solver.LR_SCHEDULER_NAME!r} is not supported; use "
        "WarmupMultiStepLR, WarmupCosineLR or WarmupStepWithFixedGammaLR"
    )
