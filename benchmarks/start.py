"""The first prediction of a process, and the first of another image size.

Each run starts a Python that imports TensorFlow, loads a model directory (Mask R-CNN R50-FPN) and
predicts, with native or with portable operators; then it predicts on an image of another size,
several times. The first prediction is timed from when TensorFlow is imported, which takes most of
the rest and is not this project's.

    python benchmarks/start.py [ROW ...] [--runs N]
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import seeded_models
from harness import Row, Side, Skip, main
from seeded_models import IMAGE, MASK_RCNN


def _ours(operators: str) -> Side:
    folder = tempfile.TemporaryDirectory()
    model = Path(folder.name) / "model"
    seeded_models.save(MASK_RCNN, model)

    def run() -> dict[str, float]:
        assert folder is not None  # it is there as long as this function is
        code = f"import start; start._predict({str(model)!r})"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env=os.environ | {"TFDETECT_OPS": operators},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        measured = json.loads(done.stdout)
        return {
            "seconds": measured["ended"] - measured["imported"],
            "loading": measured["loaded"] - measured["imported"],
            "steady": statistics.median(measured["steady"]),
            "other_size": measured["other_size"] / statistics.median(measured["steady"]),
        }

    def limit(seconds: float) -> str:
        again = run()
        return (
            f"loading the model takes {again['loading']:.1f} s, and each later prediction "
            f"{again['steady']:.1f} s of {seconds:.1f} s"
        )

    versions = seeded_models.versions()
    if operators == "native":
        from tfdetect.ops import kernels

        if kernels.library() is None:
            raise Skip("the native operators are not available")
    return Side(versions, run, limit)


def _predict(model: str) -> None:
    """In a fresh process: what `tfdetect predict` does."""
    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    times = {"imported": time.time()}
    from tfdetect.data.images import read_image
    from tfdetect.inference.predictor import Predictor

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


def _row(operators: str) -> Row:
    return Row(
        f"first_prediction_{operators}",
        "first prediction of a process, beyond importing TensorFlow: load, predict; "
        f"Mask R-CNN R50-FPN, {operators} operators",
        3.0,
        functools.partial(_ours, operators),
        unit="s",
        runs=3,
        warm_up=1,
    )


ROWS = [
    _row("native"),
    _row("portable"),
    Row(
        "other_size",
        "first image of another size, as a multiple of those that follow",
        1.3,
        functools.partial(_ours, "native"),
        measure="other_size",
        unit="times",
        runs=3,
        warm_up=0,
    ),
]

if __name__ == "__main__":
    main(ROWS)
