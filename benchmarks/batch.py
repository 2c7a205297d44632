"""A batch of 8 images: its time beside one by one and beside its products alone, and its memory.

The goal of the first is 1.3 times as many images per second: 1 / 1.3 of the time. That of the
second is 0.95 of the rate of the best float32 product that was measured here, of NumPy's and of the
native kernel's (`machine.peak_gflops`): the other side is how long the convolutions and products
of an image take at that rate, measured again in every turn. That of memory is no more for a batch
than for its images: half of them lie, half stand, so that the batch is mostly padding.

    python benchmarks/batch.py [ROW ...] [--runs N]
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import seeded_models
from harness import ROOT, Row, Side, Skip, main
from machine import PEAK_RESET, added_mb, peak_gflops
from seeded_models import IMAGE, MASK_RCNN

if TYPE_CHECKING:
    import numpy as np

    from tfdetect.inference.predictor import Predictor

BATCH = 8


def _full_size() -> tuple[Predictor, list[np.ndarray]]:
    predict = seeded_models.predictor(MASK_RCNN)
    from tfdetect.data.images import read_image

    return predict, [read_image(IMAGE)] * BATCH


def _demo() -> tuple[Predictor, list[np.ndarray]]:
    predict = seeded_models.demo_predictor()
    from tfdetect.data.images import read_image

    return predict, [read_image(ROOT / "demo" / "images" / "000000.jpg")] * BATCH


def _together(load: Callable[[], tuple[Predictor, list[np.ndarray]]]) -> Side:
    predict, images = load()

    def run() -> dict[str, float]:
        start = time.perf_counter()
        predict(images)
        return {"seconds": (time.perf_counter() - start) / BATCH}

    limit = functools.partial(seeded_models.limit, predict, images[0])
    return Side(seeded_models.versions(), run, limit)


def _one_by_one(load: Callable[[], tuple[Predictor, list[np.ndarray]]]) -> Side:
    predict, images = load()

    def run() -> None:
        predict(images[0])

    return Side(seeded_models.versions(), run)


def _products_alone() -> Side:
    predict, images = _full_size()
    operations = seeded_models.count_operations(predict, images[0])
    return Side({}, lambda: {"seconds": operations / peak_gflops()})


def _memory(count: int) -> Side:
    """What a batch's first prediction adds to the process, for each of its images."""
    if not PEAK_RESET.exists():
        raise Skip("the most memory of a call is known on Linux alone")
    predict, images = _full_size()
    upright = images[0].transpose(1, 0, 2).copy()
    mixed = [upright if index % 2 else images[0] for index in range(count)]
    return Side(
        seeded_models.versions(),
        lambda: {"added_mb": added_mb(lambda: predict(mixed)) / count},
        lambda megabytes: f"a batch of {count} adds {megabytes * count:.0f} MB to the process",
    )


def _row(
    name: str, title: str, load: Callable[[], tuple[Predictor, list[np.ndarray]]], unit: str
) -> Row:
    together, one = functools.partial(_together, load), functools.partial(_one_by_one, load)
    return Row(name, title, 1 / 1.3, together, "one by one", one, unit=unit, runs=3, warm_up=1)


ROWS = [
    _row("batch", "an image of a batch of 8, Mask R-CNN R50-FPN, 800 x 1200", _full_size, "s"),
    Row(
        "batch_products",
        "an image of a batch of 8, Mask R-CNN R50-FPN, 800 x 1200",
        1 / 0.95,
        functools.partial(_together, _full_size),
        "its products alone",
        _products_alone,
        unit="s",
        runs=3,
        warm_up=1,
    ),
    Row(
        "batch_memory",
        "memory that an image of a batch of 8 adds, 800 x 1200 and 1200 x 800",
        1.0,
        functools.partial(_memory, BATCH),
        "one image",
        functools.partial(_memory, 1),
        measure="added_mb",
        unit="MB",
        runs=1,
        warm_up=0,
    ),
    _row("batch_small", "an image of a batch of 8, the demo's model, 210 x 260", _demo, "ms"),
]

if __name__ == "__main__":
    main(ROWS)
