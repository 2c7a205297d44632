"""Time of the backbone, FPN and RPN head alone, compared with OpenVINO's.

Of torchvision's Mask R-CNN R50-FPN, for one normalised image of 800 x 1216. OpenVINO reads what
torchvision's own export makes of these parts, in float32, in bfloat16 where the processor has it,
and in int8 as NNCF quantizes them by default, calibrated on the image (NNCF 3.4 rejects the whole
model). Ours is the same checkpoint, converted.

    python benchmarks/rival_heads.py [ROW ...] [--runs N] [--reference PYTHON] [--rivals PYTHON]
"""

from __future__ import annotations

import functools
import tempfile

import rival_sides
import seeded_models
import torchvision_files
from harness import Row, Side, main
from machine import limit_of
from rivals import convert


def _ours(dtype: str) -> Side:
    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    from tfdetect.checkpoint.model_dir import load_model
    from tfdetect.inference.optimization import optimize
    from tfdetect.ops.backend import Backend

    backend = Backend.for_device("cpu", dtype="float32" if dtype == "int8" else dtype)
    with tempfile.TemporaryDirectory() as folder:
        directory = convert(folder)
        if dtype == "int8":
            directory = seeded_models.quantize(directory)
        _, model, _ = load_model(directory)
    model = optimize(model, backend)
    keep_freed_memory()

    @functools.partial(tf.function, autograph=False)
    def run(x: tf.Tensor) -> list[tf.Tensor]:
        with backend.active():
            features = model.backbone(tf.cast(x, backend.dtype))
            heads = [model.proposal_generator.rpn_head(feature) for feature in features.values()]
        return [*features.values(), *(output for head in heads for output in head)]

    x = tf.constant(torchvision_files.heads_input().transpose(0, 2, 3, 1))
    return Side(
        seeded_models.versions(),
        lambda: rival_sides.check(y.numpy() for y in run(x)),
        lambda _: limit_of(dtype),
    )


def _row(name: str, goal: float, dtype: str, precision: str, *needs: str) -> Row:
    return Row(
        name,
        f"backbone, FPN and RPN head, 800 x 1216, {dtype}",
        goal,
        functools.partial(_ours, dtype),
        f"OpenVINO, {dtype}",
        functools.partial(rival_sides.openvino_heads, precision),
        needs=("openvino", *needs),
        rivals=("theirs",),
        unit="s",
        runs=5,
        warm_up=1,
    )


ROWS = [
    _row("heads_openvino", 1.0, "float32", "f32"),
    _row("heads_openvino_bfloat16", 1.0, "bfloat16", "bf16"),
    _row("heads_openvino_int8", 0.8, "int8", "int8", "nncf"),
]

if __name__ == "__main__":
    main(ROWS)
