"""The warm-up file, parsed by the descriptors of TensorFlow Serving's messages."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

from tests.support.servables import exported
from tfdetect.export import warmup

# Name, number and type of the fields, as tensorflow_serving/apis/*.proto has them.
MESSAGES = {
    "ModelSpec": [("name", 1, "string"), ("signature_name", 3, "string")],
    "InputsEntry": [("key", 1, "string"), ("value", 2, ".tensorflow.TensorProto")],
    "PredictRequest": [
        ("model_spec", 1, ".serving.ModelSpec"),
        ("inputs", 2, "repeated .serving.InputsEntry"),
    ],
    "PredictLog": [("request", 1, ".serving.PredictRequest")],
    "PredictionLog": [("predict_log", 6, ".serving.PredictLog")],
}


@functools.cache
def prediction_log():
    """The message class, with a map as the repeated entries that it is on the wire."""
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", package="serving")
    file.syntax = "proto3"
    file.dependency.append(tensor_pb2.DESCRIPTOR.name)
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            field = message.field.add(name=field_name, number=number)
            repeated = kind.startswith("repeated ")
            field.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            kind = kind.removeprefix("repeated ")
            field.type = kinds.TYPE_STRING if kind == "string" else kinds.TYPE_MESSAGE
            if kind != "string":
                field.type_name = kind
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("serving.PredictionLog"))


def test_requests(tmp_path):
    images = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
    sizes = tf.TensorSpec([None, 2], tf.int32, name="image_sizes")
    content = tf.TensorSpec([None], tf.string, name="image_bytes")
    proposals = tf.TensorSpec([None, None, 4], tf.float32, name="proposals")
    counts = tf.TensorSpec([None], tf.int32, name="num_proposals")
    fixed = tf.TensorSpec([1, 480, 640, 3], tf.uint8, name="images")
    specs = {
        "image_tensor": [images, sizes],
        "serving_default": [content, proposals, counts],
        "one_size": [fixed],
    }
    signatures = {
        name: tf.function(lambda *values: values[0], input_signature=inputs, autograph=False)
        for name, inputs in specs.items()
    }
    warmup.write_warmup_requests(tmp_path, signatures)

    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    assert path.stat().st_size < 20_000
    message_class = prediction_log()
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert len(records) == len(specs)
    for record, (name, inputs) in zip(records, specs.items(), strict=True):
        log = message_class()
        log.ParseFromString(record)
        assert log.SerializeToString() == record  # no field is unknown, none is lost
        request = log.predict_log.request
        assert request.model_spec.signature_name == name
        arrays = {entry.key: tf.make_ndarray(entry.value) for entry in request.inputs}
        assert list(arrays) == [spec.name for spec in inputs]
        # TensorFlow takes a single value for all of a tensor, and so does what reads it here.
        for spec in inputs:
            assert spec.shape.is_compatible_with(arrays[spec.name].shape)
        if "image_bytes" in arrays:
            image = tf.io.decode_jpeg(arrays["image_bytes"][0])
            assert np.all(image == 128)
        else:
            assert arrays["images"].shape == (1, 480, 640, 3)
            assert np.all(arrays["images"] == 128)


@pytest.mark.parametrize("value", [0, 127, 128, 300, 2**21])
def test_varint(value):
    encoded = warmup._varint(value)
    assert sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(encoded)) == value
    assert all(byte & 0x80 for byte in encoded[:-1])
    assert encoded[-1] < 0x80


@pytest.mark.full
def test_every_signature_answers():
    """What the file of an exported model asks is answered."""
    path = exported("portable").path
    signatures = tf.saved_model.load(str(path)).signatures
    asked = set()
    for record in tf.data.TFRecordDataset(str(path / warmup.FILE)).as_numpy_iterator():
        request = prediction_log().FromString(record).predict_log.request
        name = request.model_spec.signature_name
        inputs = {entry.key: tf.make_ndarray(entry.value) for entry in request.inputs}
        found = signatures[name](**{key: tf.constant(array) for key, array in inputs.items()})
        assert found["num_detections"].shape == [1]
        asked.add(name)
    assert asked == set(signatures)
