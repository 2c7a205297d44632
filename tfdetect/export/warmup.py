"""Warm-up requests, which TensorFlow Serving runs before it reports a model as ready."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

FILE = Path("assets.extra", "tf_serving_warmup_requests")
"""Where, in a SavedModel, TensorFlow Serving looks for them."""
_HEIGHT, _WIDTH = 480, 640


def write_warmup_requests(folder: Path, signatures: Mapping[str, Any]) -> None:
    """Write a request to each signature: one image of 480 x 640 pixels, in one grey.

    A signature for images of one size gets as many, of that size, as it takes.

    Args:
        folder: of the SavedModel.
        signatures: tf.functions by name, whose inputs are those of `Servable`.

    Raises:
        OSError: the file cannot be written.
    """
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for name, function in signatures.items():
                inputs = {spec.name: _example(spec) for spec in function.input_signature}
                writer.write(_prediction_log(name, inputs))
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _example(spec: tf.TensorSpec) -> Any:
    """A TensorProto for the input."""
    if spec.name in ("images", "input_tensor"):
        # A value that stands for all of them: the file stays small.
        proto = tf.make_tensor_proto(np.uint8(128))
        shape = [size or own for size, own in zip(spec.shape, (1, _HEIGHT, _WIDTH, 3), strict=True)]
        proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
        return proto
    values = {
        "image_bytes": [tf.io.encode_jpeg(tf.fill([_HEIGHT, _WIDTH, 3], np.uint8(128))).numpy()],
        "image_sizes": np.array([[_HEIGHT, _WIDTH]], np.int32),
        "proposals": np.array([[[0, 0, _WIDTH, _HEIGHT]]], np.float32),
        "num_proposals": np.array([1], np.int32),
    }
    return tf.make_tensor_proto(values[spec.name])


def _prediction_log(signature: str, inputs: Mapping[str, Any]) -> bytes:
    """A tensorflow.serving.PredictionLog, encoded.

    The numbers are of the fields in tensorflow_serving/apis: prediction_log.proto, predict.proto
    and model.proto. Its Python package, which nothing else needs, would be a dependency.
    """
    model_spec = _field(3, signature.encode())
    request = _field(1, model_spec)
    for name, proto in inputs.items():
        entry = _field(1, name.encode()) + _field(2, proto.SerializeToString())
        request += _field(2, entry)
    predict_log = _field(1, request)
    return _field(6, predict_log)


def _field(number: int, content: bytes) -> bytes:
    """A field of the length-delimited wire type, the only one that is needed here."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
