"""A model for images of one fixed size, for XLA, LiteRT and ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.capabilities import capabilities
from tfdetect.errors import InputError
from tfdetect.inference.onnx_loops import separate_loop_outputs
from tfdetect.modeling.postprocess import Postprocessor, empty_unused_slots
from tfdetect.modeling.preprocess import Preprocessor, padded_sizes
from tfdetect.ops.backend import Backend

_OPSET = 18

BACKEND = Backend(fixed_shapes=True)
"""Of every such graph: of portable operators, with every shape known."""


class FixedSizePipeline(tf.Module):
    """`Pipeline` for batches of one size, of portable operators, with every shape known.

    Attributes:
        detect: maps `images`, uint8 [N, H, W, 3] RGB, to what `Pipeline.detect` gives, with
            zeros in the slots beyond the number of detections.
        compiled: the same through XLA, which compiles it at the first call.

    Args:
        cfg: the whole configuration.
        model: of `build_model`, optimized for `BACKEND`.
        batch, height, width: N, H and W.

    Raises:
        InputError: the model's results have no fixed shapes, or it needs proposals.
    """

    def __init__(self, cfg: CfgNode, model: tf.Module, batch: int, height: int, width: int):
        super().__init__()
        able = capabilities(cfg)
        if able.has_panoptic or able.takes_proposals:
            raise InputError(
                f"MODEL.META_ARCHITECTURE: {cfg.MODEL.META_ARCHITECTURE} "
                f"{'with given proposals ' if able.takes_proposals else ''}cannot be exported "
                "for one image size; export it as a SavedModel"
            )
        self.model = model
        self._preprocess = Preprocessor.from_config(cfg, model.size_divisibility)
        self._postprocess = Postprocessor.from_config(cfg)
        self._sizes = [[height, width]] * batch
        signature = [tf.TensorSpec([batch, height, width, 3], tf.uint8, name="images")]
        self.detect = tf.function(self._detect, signature, autograph=False)
        self.compiled = tf.function(self._detect, signature, autograph=False, jit_compile=True)

    def _detect(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        with BACKEND.active():
            batch, resized_sizes = self._preprocess.of_one_size(tf.reverse(images, [3]))
            outputs = self.model(batch, resized_sizes)
            # All three are constants.
            known = tf.get_static_value(resized_sizes)
            padded = tf.constant(padded_sizes(known, self.model.size_divisibility))
            sizes = tf.constant(self._sizes)
            return empty_unused_slots(self._postprocess(outputs, padded, resized_sizes, sizes))


def to_litert(pipeline: FixedSizePipeline) -> bytes:
    """The content of a LiteRT (TFLite) file, of LiteRT's built-in operators alone.

    Its one signature, `serving_default`, is `FixedSizePipeline.detect`. The int8 layers of a
    quantized model are int8 operators in it, with what lies between them.

    Raises:
        InputError: the model has an operator that LiteRT does not support.
    """
    function = pipeline.detect.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], pipeline)
    if getattr(pipeline.model, "quantization", None) is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    try:
        return converter.convert()
    except Exception as error:  # the converter's error classes are not public
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"--format litert: the model does not convert ({reason}); use --format saved_model"
        ) from error


def to_onnx(pipeline: FixedSizePipeline) -> bytes:
    """The content of an ONNX file of opset 18; inputs and outputs as `FixedSizePipeline.detect`'s.

    Raises:
        InputError: tf2onnx is not installed, or it cannot convert the model.
    """
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise InputError(
            f"--format onnx: needs tf2onnx ({error}); install it with pip install 'tfdetect[onnx]'"
        ) from error
    try:
        model, _ = tf2onnx.convert.from_function(
            pipeline.detect,
            pipeline.detect.input_signature,
            opset=_OPSET,
            custom_op_handlers={"Erfc": (_convert_erfc, [])},
        )
        separate_loop_outputs(model.graph)
        # Of an operator that it does not know it says so in its log alone.
        onnx.checker.check_model(model)
    except Exception as error:  # it raises whatever its operator handlers raise
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"--format onnx: the model does not convert ({reason}); use --format saved_model"
        ) from error
    return model.SerializeToString()


def _convert_erfc(graph: Any, node: Any, name: str, _: Sequence[Any]) -> None:
    """1 - erf, for tf2onnx, which lacks erfc: of what GELU multiplies with, off by 1e-7 at most."""
    node.type = "Erf"
    one = graph.make_const(f"{name}_one", np.array(1, np.float32)).output[0]
    difference = graph.make_node("Sub", [one, node.output[0]])
    graph.insert_node_on_output(difference, node.output[0])
