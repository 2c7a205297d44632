"""The part of docs/parity.md on int8."""

from __future__ import annotations

import tempfile
from pathlib import Path

import convert_d2.command
import tfdetect.cli.quantize
from tests.support.native import using_ops
from tests.support.paths import DEMO
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.data.shapes import write_shapes
from tfdetect.evaluation.evaluate import evaluate
from tfdetect.inference.predictor import Predictor

# As many as make the noise of the AP small beside what is measured, calibrated on others.
_IMAGES = 1000

TEXT = """
The demo's model after `tfdetect quantize --images demo/images`: {int8} of its layers are int8,
{kept} in float32 (docs/quantization.md). COCO average precision on {images} other images of
`tfdetect.data.shapes`:

| task | float32 | int8, native | difference | int8, portable | difference |
|---|---|---|---|---|---|
{rows}
"""


def quantization() -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, int8, shapes = (folder / part for part in ("model", "int8", "shapes"))
        command = ["--config-file", DEMO / "joint_rcnn" / "config.yaml", "--output", model]
        command += ["--weights", DEMO / "joint_rcnn" / "model_final.pkl"]
        command += ["--metadata", DEMO / "annotations.json"]
        convert_d2.command.main([str(word) for word in command])
        words = ["--model", model, "--images", DEMO / "images", "--output", int8]
        tfdetect.cli.quantize.main([str(word) for word in words])
        write_shapes(shapes, _IMAGES, 777)
        found = []
        for directory, operators in ((model, "native"), (int8, "native"), (int8, "portable")):
            with using_ops(operators):
                annotations = shapes / "annotations.json"
                predictor = Predictor(directory)
                found.append(evaluate(predictor, annotations, shapes / "images").metrics)
        made = load_model(int8)[1].quantization
    before, native, portable = found
    rows = []
    for task, metrics in before.items():
        first, *others = (metrics["AP"], native[task]["AP"], portable[task]["AP"])
        columns = [f"{first:.2f}"]
        for value in others:
            columns += [f"{value:.2f}", f"{value - first:+.2f}"]
        rows.append(f"| {task} | {' | '.join(columns)} |")
    return TEXT.format(
        int8=len(made.layers), kept=len(made.kept), images=_IMAGES, rows="\n".join(rows)
    )
