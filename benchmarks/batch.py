"""Time per image in a batch of 8, compared with the same images one by one.

The goal is 1.3 times as many images per second: 1 / 1.3 of the time.

    python benchmarks/batch.py [ROW ...] [--runs N]
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import seeded_models
from harness import ROOT, Row, Side, main
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


def _row(
    name: str, title: str, load: Callable[[], tuple[Predictor, list[np.ndarray]]], unit: str
) -> Row:
    together, one = functools.partial(_together, load), functools.partial(_one_by_one, load)
    return Row(name, title, 1 / 1.3, together, "one by one", one, unit=unit, runs=3, warm_up=1)


ROWS = [
    _row("batch", "an image of a batch of 8, Mask R-CNN R50-FPN, 800 x 1200", _full_size, "s"),
    _row("batch_small", "an image of a batch of 8, the demo's model, 210 x 260", _demo, "ms"),
]

if __name__ == "__main__":
    main(ROWS)
