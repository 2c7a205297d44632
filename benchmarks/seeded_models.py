"""Models of the zoo with seeded random weights in both libraries, for the rows of the table.

Nothing is downloaded, and the weights give 1000 proposals and 100 detections, as many as a trained
model can.
"""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from harness import ROOT, Side, Skip, python
from machine import peak_gflops

if TYPE_CHECKING:
    from tfdetect.inference.predictor import Predictor

MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
# 400 x 600 pixels, which the models of the zoo see as 800 x 1200.
IMAGE = ROOT / "tests" / "arrays" / "full" / "coffee.png"


def save(config: str, folder: Path) -> None:
    """Write a model directory, as convert_d2.py does; in a process of its own, for its memory."""
    code = f"import seeded_models; seeded_models._save({config!r}, {str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)


def _save(config: str, folder: str) -> None:
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    from seeded_weights import seeded_model

    from tfdetect.checkpoint.model_dir import save_model
    from tfdetect.config import load_config

    cfg = load_config(ROOT / "configs" / f"{config}.yaml")
    names = [str(index) for index in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)]
    save_model(Path(folder), cfg, seeded_model(cfg), {"class_names": names})


def predictor(config: str, dtype: str = "float32") -> Predictor:
    """What `tfdetect predict` has of a model that was converted, and of "int8" then quantized."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        save(config, model)
        if dtype == "int8":
            return load_predictor(quantize(model))
        return load_predictor(model, dtype)


def quantize(model: Path) -> Path:
    """What `tfdetect quantize` makes of a model directory, beside it, calibrated on IMAGE."""
    output = model.with_name("int8")
    files = ("--model", str(model), "--images", str(IMAGE), "--output", str(output))
    run_command("-m", "tfdetect", "quantize", *files)
    return output


def run_command(*arguments: str) -> None:
    """Run this project's Python in its root.

    Raises:
        Skip: it has failed; the last line of its errors.
    """
    command = [python("ours"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Skip(said[-1])


def load_predictor(model: Path, dtype: str = "float32") -> Predictor:
    """What `tfdetect predict` has of a model directory."""
    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    from tfdetect.inference.predictor import Predictor

    predict = Predictor(model, dtype=dtype)
    keep_freed_memory()
    return predict


def prediction(config: str, dtype: str = "float32") -> Side:
    """This project's side of a row of one prediction, of IMAGE."""
    return prediction_of(predictor(config, dtype))


def prediction_of(predict: Predictor) -> Side:
    """The same of a predictor."""
    from tfdetect.data.images import read_image

    image = read_image(IMAGE)

    def run() -> dict[str, float]:
        return {"detections": len(predict(image).scores)}

    return Side(versions(), run, functools.partial(limit, predict, image))


def demo_predictor() -> Predictor:
    """The small trained model of boxes, masks and keypoints."""
    with tempfile.TemporaryDirectory() as folder:
        return load_predictor(convert_demo(Path(folder) / "model"))


def convert_demo(model: Path) -> Path:
    """Convert the demo's model to a model directory, and return that."""
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    import convert_d2.command

    demo = ROOT / "demo"
    command = ["--config-file", str(demo / "joint_rcnn" / "config.yaml")]
    command += ["--weights", str(demo / "joint_rcnn" / "model_final.pkl")]
    command += ["--metadata", str(demo / "annotations.json"), "--output", str(model)]
    convert_d2.command.main(command)
    return model


def versions() -> dict[str, str]:
    """Of this project's side."""
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    from tfdetect.ops import kernels

    operators = "native" if kernels.library() is not None else "portable"
    return {
        "tfdetect": f"{version('tfdetect')} ({operators} operators)",
        "TensorFlow": tf.__version__,
    }


def detectron2_predictor(config: str, device: str = "cpu") -> Any:
    """Detectron2's `DefaultPredictor` on the CPU or `cuda`, with the same weights."""
    import torch
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor
    from seeded_weights import state_dict

    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / f"{config}.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST = device, "", ()
    predict = DefaultPredictor(cfg)
    shapes = {name: value.shape for name, value in predict.model.state_dict().items()}
    arrays = state_dict(shapes)
    predict.model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return predict


def detectron2_versions() -> dict[str, str]:
    """Of Detectron2's side."""
    import detectron2
    import torch
    import torchvision

    return {
        "Detectron2": detectron2.__version__,
        "PyTorch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def limit(predict: Predictor, image: Any, seconds: float) -> str:
    """How long the convolutions and products of a prediction take at the machine's best."""
    operations = count_operations(predict, image)
    best = peak_gflops()
    bound = operations / best
    return (
        f"{operations:.0f} GFLOP of convolutions and products take {bound:.2f} s at the {best:.0f} "
        f"GFLOP/s of the best float32 product here: {bound / seconds:.0%} of the time"
    )


def count_operations(predict: Predictor, image: Any) -> float:
    """10^9 operations of the convolutions and products of one prediction, as they are computed.

    Two for each multiplication; a Winograd convolution has 16 where the definition has 36.
    """
    import tensorflow as tf

    from tfdetect.inference.packed import (
        PackedConv2d,
        PackedConvTranspose2d,
        PackedLinear,
        WinogradConv2d,
    )
    from tfdetect.inference.winograd import TransformedConv2d
    from tfdetect.layers.conv import Conv2d, ConvTranspose2d
    from tfdetect.layers.deform_conv import DeformConv2d
    from tfdetect.layers.linear import Linear
    from tfdetect.ops import attention

    total = 0.0

    def counting(owner: Any, name: str, operations: Callable[[Any, Any, Any], float]) -> Any:
        call = getattr(owner, name)

        def counted(self: Any, x: tf.Tensor, *others: Any, **options: Any) -> tf.Tensor:
            nonlocal total
            y = call(self, x, *others, **options)
            total += 2 * operations(self, x, y)
            return y

        return mock.patch.object(owner, name, counted)

    def of_convolution(layer: Any, x: tf.Tensor, y: tf.Tensor) -> float:
        return y.shape.num_elements() * layer.kernel_size**2 * x.shape[-1] // layer.groups

    def of_deformable(layer: Any, x: tf.Tensor, y: tf.Tensor) -> float:
        return y.shape.num_elements() * math.prod(layer.weight.shape[:3])

    def of_winograd(layer: Any, x: tf.Tensor, y: tf.Tensor) -> float:
        return y.shape.num_elements() * 4 * x.shape[-1]

    def of_product(layer: Any, x: tf.Tensor, y: tf.Tensor) -> float:
        return y.shape.num_elements() * x.shape[-1]

    def of_attention(query: tf.Tensor, key: tf.Tensor, y: tf.Tensor) -> float:
        return 2 * y.shape.num_elements() * key.shape[1]

    def of_transposed(layer: ConvTranspose2d, x: tf.Tensor, y: tf.Tensor) -> float:
        return x.shape.num_elements() * math.prod(layer.weight.shape[:3])

    tf.config.run_functions_eagerly(True)
    try:
        with (
            counting(Conv2d, "__call__", of_convolution),
            counting(PackedConv2d, "__call__", of_convolution),
            counting(DeformConv2d, "__call__", of_deformable),
            counting(WinogradConv2d, "__call__", of_winograd),
            counting(TransformedConv2d, "__call__", of_winograd),
            counting(ConvTranspose2d, "blocks", of_product),
            counting(PackedConvTranspose2d, "blocks", of_product),
            counting(ConvTranspose2d, "__call__", of_transposed),
            counting(Linear, "__call__", of_product),
            counting(PackedLinear, "__call__", of_product),
            counting(attention, "_native", of_attention),
        ):
            predict(image)
    finally:
        tf.config.run_functions_eagerly(False)
    return total * 1e-9
