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


def warmup_multistep_factor(
    iteration: int,
    *,
    max_iter: int,
    steps: Sequence[int],
    gamma: float = 0.1,
    warmup_factor: float = 0.001,
    warmup_iters: int = 1000,
    warmup_method: str = "linear",
    rescale_interval: bool = False,
) -> float:
    """SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR: times `gamma` from every one of `steps` on.

    Args:
        iteration: 0 for the first step of training.
        max_iter: SOLVER.MAX_ITER.
        steps: SOLVER.STEPS, rising iterations; those beyond `max_iter` never take effect.
        gamma: SOLVER.GAMMA.
        warmup_factor, warmup_iters, warmup_method, rescale_interval: the keys of SOLVER with these
            names; see `_with_warmup`.

    Returns:
        The factor on SOLVER.BASE_LR (and on every parameter's own learning rate).

    Raises:
        InputError: for steps out of order or an unknown `warmup_method`.
    """
    milestones = list(steps)
    if milestones != sorted(milestones):
        raise InputError(f"SOLVER.STEPS: must be increasing, but it is {milestones}; correct it")

    def schedule(done: float) -> float:
        reached = int((done + _FRACTION_EPSILON) * max_iter)
        return gamma ** bisect_right(milestones, reached)

    return _with_warmup(
        schedule,
        iteration / max_iter,
        warmup_factor,
        min(warmup_iters / max_iter, 1.0),
        warmup_method,
        rescale_interval,
    )


def warmup_cosine_factor(
    iteration: int,
    *,
    max_iter: int,
    end_factor: float = 0.0,
    warmup_factor: float = 0.001,
    warmup_iters: int = 1000,
    warmup_method: str = "linear",
    rescale_interval: bool = False,
) -> float:
    """SOLVER.LR_SCHEDULER_NAME WarmupCosineLR: half a cosine from 1 down to `end_factor`.

    Args:
        iteration: 0 for the first step of training.
        max_iter: SOLVER.MAX_ITER.
        end_factor: SOLVER.BASE_LR_END / SOLVER.BASE_LR, in [0, 1].
        warmup_factor, warmup_iters, warmup_method, rescale_interval: the keys of SOLVER with these
            names; see `_with_warmup`.

    Returns:
        The factor on SOLVER.BASE_LR (and on every parameter's own learning rate).

    Raises:
        InputError: for an `end_factor` outside [0, 1] or an unknown `warmup_method`.
    """
    if not 0.0 <= end_factor <= 1.0:
        raise InputError(
            f"SOLVER.BASE_LR_END: is {end_factor} times SOLVER.BASE_LR; give 0 to 1 times that"
        )

    def schedule(done: float) -> float:
        return end_factor + 0.5 * (1 - end_factor) * (math.cos(math.pi * done) + 1)

    return _with_warmup(
        schedule,
        iteration / max_iter,
        warmup_factor,
        min(warmup_iters / max_iter, 1.0),
        warmup_method,
        rescale_interval,
    )


def warmup_step_factor(
    iteration: int,
    *,
    max_iter: int,
    num_decays: int,
    gamma: float = 0.1,
    warmup_factor: float = 0.001,
    warmup_iters: int = 1000,
    warmup_method: str = "linear",
    rescale_interval: bool = False,
) -> float:
    """SOLVER.LR_SCHEDULER_NAME WarmupStepWithFixedGammaLR: times `gamma` after every equal part.

    Args:
        iteration: 0 for the first step of training.
        max_iter: SOLVER.MAX_ITER.
        num_decays: SOLVER.NUM_DECAYS, one less than there are parts.
        gamma: SOLVER.GAMMA.
        warmup_factor, warmup_iters, warmup_method, rescale_interval: the keys of SOLVER with these
            names; see `_with_warmup`.

    Returns:
        The factor on SOLVER.BASE_LR (and on every parameter's own learning rate).

    Raises:
        InputError: for `num_decays` below 1, `gamma` not above 0, or an unknown `warmup_method`.
    """
    if num_decays < 1:
        raise InputError(f"SOLVER.NUM_DECAYS: is {num_decays}; give at least 1")
    if gamma <= 0:
        raise InputError(f"SOLVER.GAMMA: is {gamma}; give more than 0")

    def schedule(done: float) -> float:
        part = min(int((done + _FRACTION_EPSILON) * (num_decays + 1)), num_decays)
        return math.prod([gamma] * part)

    return _with_warmup(
        schedule,
        iteration / max_iter,
        warmup_factor,
        min(warmup_iters / max_iter, 1.0),
        warmup_method,
        rescale_interval,
    )


def _with_warmup(
    schedule: Callable[[float], float],
    done: float,
    factor: float,
    length: float,
    method: str,
    rescale_interval: bool,
) -> float:
    """`schedule` at the fraction `done` of training, with a warm-up over the first `length` of it.

    The warm-up starts at `factor` times the schedule's first value. "constant" stays there;
    "linear" rises to what the schedule gives where the warm-up ends. After it the schedule
    continues as if there had been no warm-up, or, with `rescale_interval`, is squeezed whole into
    the rest.
    Detectron2: `WarmupParamScheduler`.
    """
    if method not in ("linear", "constant"):
        raise InputError(
            f"SOLVER.WARMUP_METHOD: {method!r} is not supported; use linear or constant"
        )
    if done + _FRACTION_EPSILON > length:
        return schedule((done - length) / (1 - length) if rescale_interval else done)
    start = factor * schedule(0.0)
    if method == "constant":
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
    warmup = {
        "max_iter": solver.MAX_ITER,
        "warmup_factor": solver.WARMUP_FACTOR,
        "warmup_iters": solver.WARMUP_ITERS,
        "warmup_method": solver.WARMUP_METHOD,
        "rescale_interval": solver.RESCALE_INTERVAL,
    }
    if solver.MAX_ITER < 1:
        raise InputError(f"SOLVER.MAX_ITER: is {solver.MAX_ITER}; give at least 1")
    if solver.BASE_LR < 0:
        raise InputError(f"SOLVER.BASE_LR: is {solver.BASE_LR}; give 0 or more")
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        factor = warmup_multistep_factor(
            iteration, steps=solver.STEPS, gamma=solver.GAMMA, **warmup
        )
    elif solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        if solver.BASE_LR == 0:
            raise InputError("SOLVER.BASE_LR: is 0, which WarmupCosineLR cannot scale; give more")
        end_factor = solver.BASE_LR_END / solver.BASE_LR
        factor = warmup_cosine_factor(iteration, end_factor=end_factor, **warmup)
    elif solver.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR":
        factor = warmup_step_factor(
            iteration, num_decays=solver.NUM_DECAYS, gamma=solver.GAMMA, **warmup
        )
    else:
        raise InputError(
            f"SOLVER.LR_SCHEDULER_NAME: {solver.LR_SCHEDULER_NAME!r} is not supported; use "
            "WarmupMultiStepLR, WarmupCosineLR or WarmupStepWithFixedGammaLR"
        )
    return solver.BASE_LR * factor
