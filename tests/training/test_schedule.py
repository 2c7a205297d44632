"""Learning-rate factors against Detectron2's, recorded over 100 iterations."""

from __future__ import annotations

import pytest

from tfdetect.errors import InputError
from tfdetect.training.schedule import (
    warmup_cosine_factor,
    warmup_multistep_factor,
    warmup_step_factor,
)

# The parameters under which tests/arrays/ops/schedule.npz was recorded.
WARMUP = {"max_iter": 100, "warmup_factor": 0.001, "warmup_iters": 20}


def test_multistep_is_detectron2s(oracle):
    recorded = oracle("schedule")["multistep"]
    factors = [warmup_multistep_factor(i, steps=(60, 80), gamma=0.1, **WARMUP) for i in range(100)]
    assert factors[:80] == recorded[:80].tolist()
    # The record was made with the value 0.01; Detectron2's build_lr_scheduler takes gamma ** 2,
    # as here, which is the next double after 0.01.
    assert factors[80:] == [0.1**2] * 20
    assert factors[80:] == pytest.approx(recorded[80:], rel=3e-16)


def test_cosine_is_bit_for_bit_detectron2s(oracle):
    recorded = oracle("schedule")["cosine"]
    factors = [warmup_cosine_factor(i, **WARMUP) for i in range(100)]
    assert factors == recorded.tolist()


def test_steps_of_equal_length():
    factors = [
        warmup_step_factor(i, max_iter=100, num_decays=3, gamma=0.5, warmup_iters=0)
        for i in range(100)
    ]
    assert factors == [1.0] * 25 + [0.5] * 25 + [0.25] * 25 + [0.125] * 25
    # Three parts of 100: where one ends is rounded up. Powers as a product of doubles.
    factors = [warmup_step_factor(i, max_iter=100, num_decays=2, warmup_iters=0) for i in (33, 34)]
    assert factors == [1.0, 0.1]
    assert warmup_step_factor(99, max_iter=100, num_decays=2, warmup_iters=0) == 0.1 * 0.1
    # In the warm-up, as in the other schedules: half-way from 0.001 to what comes after it.
    assert warmup_step_factor(20, max_iter=100, num_decays=3, warmup_iters=40) == pytest.approx(
        (0.001 + 0.1) / 2, rel=1e-12
    )


def test_steps_of_equal_length_that_make_no_sense():
    with pytest.raises(InputError, match=r"SOLVER\.NUM_DECAYS"):
        warmup_step_factor(0, max_iter=100, num_decays=0)
    with pytest.raises(InputError, match=r"SOLVER\.GAMMA"):
        warmup_step_factor(0, max_iter=100, num_decays=1, gamma=0.0)


def test_constant_warmup():
    factors = [
        warmup_multistep_factor(
            i, max_iter=10, steps=(8,), warmup_factor=0.25, warmup_iters=3, warmup_method="constant"
        )
        for i in range(10)
    ]
    # 0.1 ** 1 is exact, as is everything else here.
    assert factors == [0.25] * 3 + [1.0] * 5 + [0.1] * 2


def test_rescaled_interval_starts_the_schedule_where_the_warmup_ends():
    def factor(i):
        return warmup_cosine_factor(
            i, max_iter=100, end_factor=0.1, warmup_iters=20, rescale_interval=True
        )

    # Rounding of a few double-precision operations.
    assert factor(20) == pytest.approx(1.0, abs=1e-12)
    assert factor(60) == pytest.approx(0.55, abs=1e-12)
    assert factor(10) == pytest.approx(0.5005, abs=1e-12)


def test_without_warmup_and_all_warmup():
    assert warmup_multistep_factor(0, max_iter=10, steps=(), warmup_iters=0) == 1.0
    # A warm-up longer than the training: the last iteration is still warming up.
    # Rounding of a few double-precision operations.
    assert warmup_multistep_factor(
        9, max_iter=10, steps=(), warmup_iters=1000, warmup_factor=0.0
    ) == pytest.approx(0.9, abs=1e-12)


def test_steps_take_effect_at_their_own_iteration_in_a_long_schedule():
    factors = [
        warmup_multistep_factor(i, max_iter=270000, steps=(210000, 250000))
        for i in (209999, 210000, 249999, 250000, 269999)
    ]
    assert factors == [1.0, 0.1, 0.1, 0.1**2, 0.1**2]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"steps": (80, 60)}, "SOLVER.STEPS"),
        ({"steps": (), "warmup_method": "cubic"}, "SOLVER.WARMUP_METHOD"),
    ],
)
def test_what_makes_no_sense_is_named(change, names):
    with pytest.raises(InputError, match=names):
        warmup_multistep_factor(0, max_iter=100, **change)


def test_cosine_cannot_end_above_its_start():
    with pytest.raises(InputError, match=r"SOLVER\.BASE_LR_END"):
        warmup_cosine_factor(0, max_iter=100, end_factor=2.0)
