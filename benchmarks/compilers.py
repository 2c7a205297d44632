"""One prediction with the native operators as each C++ compiler on PATH makes them.

Beside those of the compiler that is used by default. The first run builds the library of each, in
about a minute; they are kept in output/compilers.

    python benchmarks/compilers.py [ROW ...] [--runs N]
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import seeded_models
from harness import ROOT, Row, Side, Skip, main
from seeded_models import IMAGE, MASK_RCNN


def find_compilers() -> list[str]:
    """The names of all g++-N and clang++-N on PATH, in order."""
    names = set()
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        names |= {path.name for path in Path(folder or ".").glob("*++-*")}
    return sorted(name for name in names if re.fullmatch(r"(g|clang)\+\+-\d+", name))


def _side(compiler: str | None) -> Side:
    if compiler:
        os.environ["CXX"] = compiler
        os.environ["TFDETECT_CACHE"] = str(ROOT / "output" / "compilers")
    # Alone: both sides on a machine with a GPU would use that.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    predict = seeded_models.predictor(MASK_RCNN)
    from tfdetect.data.images import read_image
    from tfdetect.ops import kernels

    if not kernels.use_native():
        raise Skip("the native operators cannot be had")
    image = read_image(IMAGE)
    used = kernels.instruction_sets().used

    def run() -> dict[str, float]:
        # Of all threads: a machine that others use as well changes it less than the time.
        before = os.times()
        found = len(predict(image).scores)
        after = os.times()
        cpu = after.user + after.system - before.user - before.system
        return {"detections": found, "cpu_seconds": cpu}

    return Side({compiler or "the default compiler": f"({used})"}, run)


ROWS = [
    Row(
        f"compiler_{compiler}",
        f"one image, Mask R-CNN R50-FPN, operators built by {compiler} (processor time)",
        1.15,
        functools.partial(_side, compiler),
        "default compiler",
        functools.partial(_side, None),
        measure="cpu_seconds",
        unit="s",
        runs=5,
        warm_up=1,
    )
    for compiler in find_compilers()
]

if __name__ == "__main__":
    main(ROWS)
