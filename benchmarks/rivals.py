"""Time of torchvision's Mask R-CNN R50-FPN here and in what people would use for it instead.

Beside torchvision itself (PyTorch), and beside its own ONNX export in ONNX Runtime and OpenVINO, on
an image of 400 x 600 in memory, which the model sees as 800 x 1200. Ours is the same checkpoint,
converted: `Predictor`, and each form that is exported. torchvision's model and its export paste
their masks, and so do `Predictor` and the SavedModel's signature `full_masks`, which decodes the
image too; the forms of one size give them within their boxes.

    python benchmarks/rivals.py [ROW ...] [--runs N] [--reference PYTHON] [--rivals PYTHON]

The reference's Python has PyTorch, torchvision and onnx, the rivals' has onnxruntime, openvino and
nncf; our ONNX file also wants tf2onnx beside TensorFlow.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import rival_sides
import seeded_models
import torchvision_files
from harness import Row, Side, main
from machine import limit_of
from seeded_models import run_command

# (height, width) of the image.
SIZE = ("400", "600")


def convert(folder: str) -> Path:
    """The model directory of torchvision's checkpoint, in a folder."""
    torchvision_files.write_files()
    model = Path(folder) / "model"
    run_command(
        "convert_d2.py", "--weights", str(torchvision_files.CHECKPOINT), "--output", str(model)
    )
    return model


def _export(folder: str, name: str, *options: str, dtype: str = "float32") -> Path:
    """What `tfdetect export` makes of it, of "int8" once it is quantized."""
    output = Path(folder) / name
    model = convert(folder)
    if dtype == "int8":
        model = seeded_models.quantize(model)
    run_command(
        "-m", "tfdetect", "export", "--model", str(model), "--output", str(output), *options
    )
    return output


def _native(dtype: str = "float32") -> Side:
    with tempfile.TemporaryDirectory() as folder:
        predict = seeded_models.load_predictor(convert(folder), dtype)
    side = seeded_models.prediction_of(predict)
    return side if dtype == "float32" else Side(side.versions, side.run, lambda _: limit_of(dtype))


def _saved_model() -> Side:
    """The portable SavedModel, from the bytes of the image's file."""
    with tempfile.TemporaryDirectory() as folder:
        exported = _export(folder, "servable")
        signature = _signature(exported, "full_masks")
    import tensorflow as tf

    file = tf.constant([seeded_models.IMAGE.read_bytes()])
    return Side(_versions(), lambda: _detections(signature(image_bytes=file)), _limit)


def _xla() -> Side:
    """The SavedModel of one size that XLA compiles."""
    with tempfile.TemporaryDirectory() as folder:
        exported = _export(folder, "compiled", "--format", "xla", "--size", *SIZE)
        signature = _signature(exported, "serving_default")
    import numpy as np
    import tensorflow as tf

    images = tf.constant(np.load(torchvision_files.PIXELS)[None])
    return Side(_versions(), lambda: _detections(signature(images=images)), _limit)


def _signature(exported: Path, name: str) -> Callable:
    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    loaded = tf.saved_model.load(str(exported / "1"))
    keep_freed_memory()
    signature = loaded.signatures[name]
    signature.loaded = loaded  # its variables live as long
    return signature


def _litert(dtype: str = "float32") -> Side:
    """The LiteRT file in TensorFlow's interpreter of such files, on all cores."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        options = ("--format", "litert", "--size", *SIZE)
        exported = _export(folder, "model.tflite", *options, dtype=dtype)
        content = exported.read_bytes()
    versions = _versions()
    import tensorflow as tf

    threads = len(os.sched_getaffinity(0))
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
    detect = interpreter.get_signature_runner()
    images = np.load(torchvision_files.PIXELS)[None]
    limit = _limit if dtype == "float32" else None
    return Side(versions, lambda: _detections(detect(images=images)), limit)


def _onnx() -> Side:
    """The ONNX file in ONNX Runtime, in the rivals' Python."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        exported = _export(folder, "model.onnx", "--format", "onnx", "--size", *SIZE)
        images = np.load(torchvision_files.PIXELS)[None]
        run, versions = rival_sides.onnx_session(exported, images)
    return Side(versions, lambda: _detections(run()))


def _versions() -> dict[str, str]:
    import tensorflow as tf

    return {"TensorFlow": tf.__version__}


def _limit(seconds: float) -> str:
    """What bounds the portable model."""
    os.environ["TFDETECT_OPS"] = "portable"
    with tempfile.TemporaryDirectory() as folder:
        predict = seeded_models.load_predictor(convert(folder))
    from tfdetect.data.images import read_image

    return seeded_models.limit(predict, read_image(seeded_models.IMAGE), seconds)


def _detections(outputs: dict) -> dict[str, float]:
    return {"detections": int(outputs["num_detections"][0])}


def _row(
    name: str,
    title: str,
    goal: float,
    ours: Callable[[], Side],
    library: str,
    theirs: Callable[[], Side],
    *needs: str,
    rivals: tuple[str, ...] = ("theirs",),
) -> Row:
    return Row(
        name,
        f"{title}, torchvision's Mask R-CNN R50-FPN",
        goal,
        ours,
        library,
        theirs,
        needs=needs,
        rivals=rivals,
        unit="s",
        runs=5,
        warm_up=1,
    )


_ONNX = ("torchvision's export in ONNX Runtime", rival_sides.onnx_runtime, "onnxruntime")
_OPENVINO = (
    "torchvision's export in OpenVINO, float32",
    functools.partial(rival_sides.openvino, "f32"),
    "openvino",
)
_OPENVINO_BFLOAT16 = (
    "torchvision's export in OpenVINO, bfloat16",
    functools.partial(rival_sides.openvino, "bf16"),
    "openvino",
)
_TORCHVISION = ("torchvision", rival_sides.torchvision, "torch", "torchvision")
_BFLOAT16 = functools.partial(_native, "bfloat16")

ROWS = [
    _row("rival_torchvision", "one image", 0.5, _native, *_TORCHVISION, rivals=()),
    _row("rival_onnxruntime", "one image", 1.0, _native, *_ONNX),
    _row("rival_openvino", "one image", 1.0, _native, *_OPENVINO),
    _row("rival_openvino_bfloat16", "one image in bfloat16", 1.0, _BFLOAT16, *_OPENVINO_BFLOAT16),
    _row("portable_openvino", "portable SavedModel", 0.8, _saved_model, *_OPENVINO),
    _row("portable_native", "portable SavedModel", 1.3, _saved_model, "native", _native, rivals=()),
    _row(
        "onnx_onnxruntime",
        "ONNX file in ONNX Runtime",
        1.0,
        _onnx,
        *_ONNX,
        rivals=("ours", "theirs"),
    ),
    _row("litert_onnxruntime", "LiteRT file in LiteRT, float32", 1.0, _litert, *_ONNX),
    _row(
        "litert_int8",
        "LiteRT file in LiteRT, int8",
        0.5,
        functools.partial(_litert, "int8"),
        "float32",
        _litert,
        rivals=(),
    ),
    _row("xla_onnxruntime", "SavedModel of one size by XLA", 1.0, _xla, *_ONNX),
]

if __name__ == "__main__":
    main(ROWS)
