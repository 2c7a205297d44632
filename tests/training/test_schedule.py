"""Learning-rate factors against Detectron2's, recorded over 100 iterations."""

from __future__ import annotations

import pytest

from tfdetect.errors import InputError
from tfdetect.training.schedule import (
    cosine_schedule,
    factor_at,
    multistep_schedule,
    step_schedule,
)

# The parameters under which tests/arrays/ops/schedule.npz was recorded.
WARMUP = {"max_iter": 100, "warmup_factor": 0.001, "warmup_iters": 20}
NO_WARMUP = {"max_iter": 100, "warmup_factor": 0.001, "warmup_iters": 0}


def factors(schedule, iterations, **options):
    return [factor_at(iteration, schedule, **options) for iteration in iterations]


def test_multistep_is_detectron2s(oracle):
    recorded = oracle("schedule")["multistep"]
    found = factors(multistep_schedule(100, (60, 80), 0.1), range(100), **WARMUP)
    assert found[:80] == recorded[:80].tolist()
    # The record was made with the value 0.01; Detectron2's build_lr_scheduler takes gamma ** 2,
    # as here, which is the next double after 0.01.
    assert found[80:] == [0.1**2] * 20
    assert found[80:] == pytest.approx(recorded[80:], rel=3e-16)


def test_cosine_is_bit_for_bit_detectron2s(oracle):
    recorded = oracle("schedule")["cosine"]
    assert factors(cosine_schedule(0.0), range(100), **WARMUP) == recorded.tolist()


def test_steps_of_equal_length():
    found = factors(step_schedule(3, 0.5), range(100), **NO_WARMUP)
    assert found == [1.0] * 25 + [0.5] * 25 + [0.25] * 25 + [0.125] * 25
    # Three parts of 100: where one ends is rounded up. Powers as a product of doubles.
    assert factors(step_schedule(2, 0.1), (33, 34, 99), **NO_WARMUP) == [1.0, 0.1, 0.1 * 0.1]
    # In the warm-up, as in the other schedules: half-way from 0.001 to what comes after it.
    (found,) = factors(step_schedule(3, 0.1), [20], **WARMUP | {"warmup_iters": 40})
    assert found == pytest.approx((0.001 + 0.1) / 2, rel=1e-12)


def test_constant_warmup():
    options = {"max_iter": 10, "warmup_factor": 0.25, "warmup_iters": 3}
    schedule = multistep_schedule(10, (8,), 0.1)
    found = factors(schedule, range(10), warmup_method="constant", **options)
    # 0.1 ** 1 is exact, as is everything else here.
    assert found == [0.25] * 3 + [1.0] * 5 + [0.1] * 2


def test_rescaled_interval_starts_the_schedule_where_the_warmup_ends():
    found = factors(cosine_schedule(0.1), (20, 60, 10), rescale_interval=True, **WARMUP)
    # Rounding of a few double-precision operations.
    assert found == pytest.approx([1.0, 0.55, 0.5005], abs=1e-12)


def test_without_warmup_and_all_warmup():
    schedule = multistep_schedule(10, (), 0.1)
    assert factor_at(0, schedule, max_iter=10, warmup_factor=0.0, warmup_iters=0) == 1.0
    # A warm-up longer than the training: the last iteration is still warming up.
    # Rounding of a few double-precision operations.
    found = factor_at(9, schedule, max_iter=10, warmup_factor=0.0, warmup_iters=1000)
    assert found == pytest.approx(0.9, abs=1e-12)


def test_steps_take_effect_at_their_own_iteration_in_a_long_schedule():
    iterations = (209999, 210000, 249999, 250000, 269999)
    options = {"max_iter": 270000, "warmup_factor": 0.001, "warmup_iters": 1000}
    found = factors(multistep_schedule(270000, (210000, 250000), 0.1), iterations, **options)
    assert found == [1.0, 0.1, 0.1, 0.1**2, 0.1**2]


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: multistep_schedule(100, (80, 60), 0.1), "STEPS"),
        (lambda: cosine_schedule(2.0), "BASE_LR_END"),
        (lambda: step_schedule(0, 0.1), "NUM_DECAYS"),
        (lambda: step_schedule(1, 0.0), "GAMMA"),
        (lambda: factor_at(0, cosine_schedule(0.0), warmup_method="cubic", **WARMUP), "WARMUP"),
    ],
)
def test_what_makes_no_sense_is_named(make, key):
    with pytest.raises(InputError, match=rf"SOLVER\.{key}"):
        make()
