"""Peak memory of `tfdetect predict --slice` on an image of 20,000 x 20,000 pixels.

The image is a mosaic of the demo's shapes, three times as large as its model was trained on, so
that slices of 1024 pixels, which the model sees at a third, have them at the size that it knows.
More than 5000 instances with masks and keypoints go to a JSON file, and the picture is drawn.

    python benchmarks/large_image.py [--runs N]
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import seeded_models
from harness import ROOT, Row, Side, main, python

SIDE = 20_000
REPEATED = 2_000
INSTANCES = 5_000
SLICE = 1024


def _write_mosaic(path: Path) -> None:
    """Shapes from edge to edge, the same every REPEATED pixels."""
    import cv2
    import numpy as np

    from tfdetect.data.shapes import draw_image

    random = np.random.default_rng(0)
    tile = np.full((REPEATED, REPEATED, 3), 128, np.uint8)
    top = 0
    while top < REPEATED:
        left = tallest = 0
        while left < REPEATED:
            drawn, _ = draw_image(random)
            drawn = cv2.resize(drawn, None, fx=3, fy=3)
            target = tile[top : top + drawn.shape[0], left : left + drawn.shape[1]]
            target[:] = drawn[: target.shape[0], : target.shape[1]]
            left += drawn.shape[1]
            tallest = max(tallest, drawn.shape[0])
        top += tallest
    count = SIDE // REPEATED
    cv2.imwrite(str(path), np.tile(tile, (count, count, 1)), [cv2.IMWRITE_JPEG_QUALITY, 90])


def _ours() -> Side:
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    model, image = seeded_models.convert_demo(root / "model"), root / "image.jpg"
    # In a process of its own, so that its memory is not this one's.
    code = f"import large_image, pathlib; large_image._write_mosaic(pathlib.Path({str(image)!r}))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [python("ours"), "-c", code]
    subprocess.run(words, cwd=ROOT / "benchmarks", env=environment, check=True)
    command = [python("ours"), "-m", "tfdetect", "predict", "--model", str(model)]
    command += ["--input", str(image), "--json", str(root / "found.json"), "--device", "cpu"]
    command += ["--output", str(root / "pictures"), "--slice", str(SLICE), "--batch-size", "4"]

    def run() -> dict[str, float]:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        assert folder is not None  # it is there as long as this function is
        (record,) = json.loads((root / "found.json").read_text())
        count = len(record["pred_masks"])
        assert count >= INSTANCES, count
        return {"peak_mb": usage.ru_maxrss / 1024, "instances": count}

    def limit(megabytes: float) -> str:
        pixels = SIDE**2 / 2**20
        return f"{7 * pixels:.0f} MB are Pillow's four bytes a pixel and the image's three"

    return Side(seeded_models.versions(), run, limit)


ROWS = [
    Row(
        "large_image",
        f"peak memory of predict --slice {SLICE}, an image of {SIDE} x {SIDE} with "
        f"{INSTANCES} instances",
        4096.0,
        _ours,
        measure="peak_mb",
        unit="MB",
        runs=1,
        warm_up=0,
        bounded=True,
    )
]

if __name__ == "__main__":
    main(ROWS)
