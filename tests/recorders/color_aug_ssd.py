"""Records `ColorAugSSDTransform` of Detectron2's projects/PointRend.

    python -m tests.recorders.color_aug_ssd projects/PointRend/point_rend/color_augmentation.py

It draws from Python's `random`; here from a `numpy.random.RandomState` of the recorded seed, with
the same meaning, so that an augmentation that draws in the same order gets the same numbers.
"""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np

from tests.support.paths import ROOT

SEEDS = range(24)


def main(source: str) -> None:
    """Write tests/arrays/pointrend/color_aug_ssd.npz."""
    spec = importlib.util.spec_from_file_location("color_augmentation", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    image = np.random.RandomState(1).randint(0, 256, (12, 16, 3)).astype(np.uint8)
    image[:4] //= 16  # dark, so that brightness is clipped
    arrays = {"image": image}
    for order in ("BGR", "RGB"):
        for seed in SEEDS:
            random = np.random.RandomState(seed)
            module.random = SimpleNamespace(
                randrange=random.randint,
                uniform=random.uniform,
                randint=lambda low, high, random=random: int(random.randint(low, high + 1)),
            )
            arrays[f"{order}_{seed}"] = module.ColorAugSSDTransform(order).apply_image(image.copy())
    folder = ROOT / "tests" / "arrays" / "pointrend"
    np.savez_compressed(folder / "color_aug_ssd.npz", **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
