"""The native operators as each C++ compiler on PATH makes them, beside the default compiler's.

Two rows a compiler: the products and Winograd convolutions alone, and a prediction. After each it
says whether the outputs are those of the default compiler to the bit. The first run builds the
library of each, in about a minute; they are kept in output/compilers.

    python benchmarks/compilers.py [ROW ...] [--runs N]
"""

from __future__ import annotations

import functools
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import seeded_models
from harness import ROOT, Result, Row, Side, Skip, main
from seeded_models import IMAGE, MASK_RCNN


def find_compilers() -> list[str]:
    """The names of all g++-N and clang++-N on PATH, in order."""
    names = set()
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        names |= {path.name for path in Path(folder or ".").glob("*++-*")}
    found = [name for name in names if re.fullmatch(r"(g|clang)\+\+-\d+", name)]
    return sorted(found, key=lambda name: (name.rpartition("-")[0], int(name.rpartition("-")[2])))


def _side(compiler: str | None, set_up: Callable[[], Callable[[], bytes]]) -> Side:
    """What `set_up` gives, timed with the operators of a compiler; it returns its outputs."""
    if compiler:
        os.environ["CXX"] = compiler
        os.environ["TFDETECT_CACHE"] = str(ROOT / "output" / "compilers")
    # Alone: both sides on a machine with a GPU would use that.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    run_once = set_up()
    from tfdetect.ops import kernels

    if kernels.library() is None:
        raise Skip("the native operators are not available")

    def run() -> dict[str, float]:
        return {"checksum": zlib.crc32(run_once())}

    used = kernels.instruction_sets().used
    return Side({compiler or "the default compiler": f"({used})"}, run)


def _prediction() -> Callable[[], bytes]:
    predict = seeded_models.predictor(MASK_RCNN)
    from tfdetect.data.images import read_image

    image = read_image(IMAGE)

    def run() -> bytes:
        found = predict(image)
        return found.boxes.tobytes() + found.scores.tobytes() + found.masks.tobytes()

    return run


def _convolutions() -> Callable[[], bytes]:
    seeded_models.versions()  # TensorFlow
    import tensorflow as tf

    from tfdetect.ops.packed_conv import pack_weight, packed_conv, winograd_conv

    x = tf.random.stateless_normal([1, 50, 76, 256], (1, 2))
    weight = tf.random.stateless_normal([3, 3, 256, 256], (3, 4))
    bias = tf.zeros([256])
    pointwise = pack_weight(tf.reshape(weight[0], [1, 1, 3 * 256, 256]))
    winograd = pack_weight(weight, winograd=True)
    options = {"kernel_size": 1, "stride": 1, "padding": 0, "relu": True}

    def run() -> bytes:
        for _ in range(8):
            wide = tf.concat([winograd_conv(x, winograd, bias, relu=True)] * 3, 3)
            y = packed_conv(wide, pointwise, bias, **options)
        return y.numpy().tobytes()

    return run


def _rows() -> list[Row]:
    rows = []
    for compiler in find_compilers():
        for name, title, set_up, runs in (
            ("products", "products and Winograd, 50 x 76 x 256", _convolutions, 15),
            ("prediction", "one image, Mask R-CNN R50-FPN", _prediction, 5),
        ):
            rows.append(
                Row(
                    f"compiler_{compiler}_{name}",
                    f"{title}, operators built by {compiler} (processor time)",
                    1.10,
                    functools.partial(_side, compiler, set_up),
                    "default compiler",
                    functools.partial(_side, None, set_up),
                    measure="cpu_seconds",
                    unit="s",
                    runs=runs,
                    warm_up=1,
                )
            )
    return rows


def _describe_outputs(result: Result) -> str:
    checksums = {sample["checksum"] for samples in result.samples.values() for sample in samples}
    same = "the same to the bit" if len(checksums) == 1 else "NOT the same"
    return f"{result.title}: outputs are {same}"


ROWS = _rows()

if __name__ == "__main__":
    for measured in main(ROWS):
        if measured.theirs is not None:
            print(_describe_outputs(measured))
