"""The graph that runs after TensorFlow's optimizer: fused, without transposes and Python."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from tests.support.comparison import transposed_types
from tests.support.native import require_native, using_ops
from tests.support.servables import IMAGES, model_dir
from tfdetect.data.images import read_image
from tfdetect.export.decode import decode_images
from tfdetect.inference.predictor import Predictor
from tfdetect.inference.profile import stage_of
from tfdetect.ops.backend import Backend
from tfdetect.ops.packed_conv import packing_pays

NETWORK = ("backbone", "rpn_head", "box_head", "mask_head", "keypoint_head")
BLOCKS = 3 + 4 + 6 + 3  # of a ResNet-50
WIDE = 3  # of them: in res5, of 128 channels here


def executed(implementation: str, folder) -> Counter:
    """How often each (name of a node, its type) ran in one prediction."""
    with using_ops(implementation):
        predictor = Predictor(model_dir())
        image = read_image(IMAGES[0])
        predictor(image)
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3)
        with tf.profiler.experimental.Profile(str(folder), options):
            predictor(image)
    (file,) = folder.glob("plugins/profile/*/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    found: Counter = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if matched := re.fullmatch(r"([^:\s]+):(\w+)", name):
                    found[matched.groups()] += 1
    return found


def of_network(operations: Counter) -> Counter:
    """Types of what the network's layers ran; pooling and boxes aside.

    TensorFlow's names for its oneDNN kernels (`_MklNativeFusedConv2D`, `_MklTranspose`) become
    those of its own (`_FusedConv2D`, `Transpose`): which of the two run depends on the processor.
    """
    types: Counter = Counter()
    for name, kind in operations:
        stage = stage_of(name)
        if stage.startswith(NETWORK) and "pooler" not in stage:
            types[re.sub("^_Mkl(Native)?", "", re.sub("^_Mkl(Native)?Fused", "_Fused", kind))] += 1
    return types


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    return executed("portable", tmp_path_factory.mktemp("portable"))


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    require_native()
    return executed("native", tmp_path_factory.mktemp("native"))


def test_layers_are_fused_by_tensorflow(portable):
    """Bias and ReLU are part of every convolution and product, but for what ends a block of the
    ResNet, where the shortcut is added in between, the 3 x 3 ones of its last stage, which are wide
    enough for Winograd's products, and the keypoints' transposed convolution."""
    types = of_network(portable)
    assert types["_FusedConv2D"] > 80
    assert types["_FusedMatMul"] == 4
    assert types["Conv2D"] == types["MatMul"] == 0
    assert types["Relu"] == BLOCKS + WIDE
    assert types["BiasAdd"] == types["Conv2DBackpropInput"] == 1
    assert types["Pad"] == types["PadV2"] == 0
    # Of the weight of the masks' transposed convolution.
    assert types["Transpose"] == 1


def test_layers_are_fused_in_the_native_kernels(native):
    """The shortcut too; only the predictors of masks and classes have too few channels, and the
    stem's 7 x 7 is oneDNN's where it has AVX-512."""
    types = of_network(native)
    kinds = [kind for kind in types if kind.startswith("Tfdetect")]
    assert sum(types[kind] for kind in kinds) >= 80
    stem = packing_pays(
        tf.TensorShape([7, 7, 3, 64]), 2, 1, Backend.for_device("cpu").instruction_set
    )
    assert types["_FusedConv2D"] == (1 if stem else 2)
    assert types["_FusedMatMul"] == 1
    assert types["Conv2D"] == types["MatMul"] == types["Relu"] == types["Transpose"] == 0
    assert types["BiasAdd"] == types["Conv2DBackpropInput"] == 1


@pytest.mark.parametrize("implementation", ["portable", "native"])
def test_nothing_is_done_in_python(implementation, request):
    operations = request.getfixturevalue(implementation)
    assert len(operations) > 500
    assert not {kind for _, kind in operations} & {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def test_no_loop_but_over_images(native):
    assert {stage_of(name) for name, _ in native if "/while/" in name} == {"preprocess"}


def test_only_floats_are_transposed():
    """For others TensorFlow's oneDNN says on stderr that it needs AVX-512."""
    with using_ops("portable"):
        predictor = Predictor(model_dir())
        detect = predictor._pipeline.detect.get_concrete_function()
        decode = tf.function(decode_images, autograph=False).get_concrete_function(
            tf.TensorSpec([None], tf.string)
        )
    assert transposed_types(detect.graph) == {tf.float32}
    assert transposed_types(decode.graph) == set()
