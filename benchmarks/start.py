"""The first prediction of a process, and the first of another image size.

Each run starts a Python that imports TensorFlow, loads a model directory (Mask R-CNN R50-FPN) and
predicts; then it predicts on an image of another size, several times.

    python benchmarks/start.py [ROW ...] [--runs N]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import seeded_models
from harness import Row, Side, main
from seeded_models import IMAGE, MASK_RCNN


def _ours() -> Side:
    folder = tempfile.TemporaryDirectory()
    model = Path(folder.name) / "model"
    seeded_models.save(MASK_RCNN, model)

    def run() -> dict[str, float]:
        assert folder is not None  # it is there as long as this function is
        start = time.time()
        code = f"import start; start._predict({str(model)!r})"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        measured = json.loads(done.stdout)
        return {
            "seconds": measured["ended"] - start,
            "other_size": measured["other_size"] / statistics.median(measured["steady"]),
        } | {name: measured[name] - start for name in ("imported", "loaded")}

    return Side(seeded_models.versions(), run)


def _predict(model: str) -> None:
    """In a fresh process: what `tfdetect predict` does."""
    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    from tfdetect.data.images import read_image
    from tfdetect.inference.predictor import Predictor

    times = {"imported": time.time()}
    predict = Predictor(model)
    keep_freed_memory()
    times["loaded"] = time.time()
    image = read_image(IMAGE)
    predict(image)
    times["ended"] = time.time()
    other = image[:, : image.shape[1] * 4 // 5]
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        predict(other)
        seconds.append(time.perf_counter() - start)
    print(json.dumps(times | {"other_size": seconds[0], "steady": seconds[1:]}))


ROWS = [
    Row(
        "first_prediction",
        "first prediction of a process: import, load, predict; Mask R-CNN R50-FPN",
        12.0,
        _ours,
        unit="s",
        runs=3,
        warm_up=1,
    ),
    Row(
        "other_size",
        "first image of another size, as a multiple of those that follow",
        1.3,
        _ours,
        measure="other_size",
        unit="times",
        runs=3,
        warm_up=0,
    ),
]

if __name__ == "__main__":
    main(ROWS)
