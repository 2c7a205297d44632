"""Two replicas with a half of the batch each, against one device with all of it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.full  # tests/training/test_train_shared.py has the whole of it


# In a process of its own: devices can only be divided before TensorFlow starts.
TWO_DEVICES = """
import sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tests.support.small_training import CLASSES, MASK_RCNN, batch, small_model
from tfdetect.modeling.structures import Targets
from tfdetect.layers.norm import BatchNorm, batch_statistics

OPTIONS = {
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.KEYPOINT_ON": True,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 4,
    # More than there are, so that the replicas have unequal numbers of regions.
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.5,
}
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
arrays = {}


def part(tensor, replicas, index):
    size = tensor.shape[0] // replicas
    return tensor[index * size : (index + 1) * size]


def run(replicas):
    # The images have 3, 1, 2 and no objects, so that the replicas have unequal numbers of all.
    images, sizes, targets = batch((3, 1, 2, 0))
    name = f"{replicas}/"

    def build():
        _, model, named = small_model(MASK_RCNN, OPTIONS)
        weights = np.arange(1.0, CLASSES + 1, dtype=np.float32)
        model.roi_heads.box_predictor.fed_loss_cls_weights.assign(np.sqrt(weights))
        return model, named

    def losses_of(model, named):
        context = tf.distribute.get_replica_context()
        index = tf.get_static_value(context.replica_id_in_sync_group) if replicas > 1 else 0
        own = [part(images, replicas, index), part(sizes, replicas, index)]
        own.append(Targets(*(t if t is None else part(t, replicas, index) for t in targets)))
        seed = tf.stack([11, 20 + index * (4 // replicas)])
        with tf.GradientTape() as tape:
            losses = model.losses(*own, seed)
            total = tf.add_n(list(losses.values()))
        gradients = tape.gradient(total, [n.variable for n in named])
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        if replicas > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        return losses, gradients

    if replicas == 1:
        model, named = build()
        losses, gradients = tf.function(lambda: losses_of(model, named), autograph=False)()
    else:
        with strategy.scope():
            model, named = build()

        @tf.function(autograph=False)
        def step():
            losses, gradients = strategy.run(losses_of, args=(model, named))
            mean = tf.distribute.ReduceOp.MEAN
            losses = {k: strategy.reduce(mean, loss, axis=None) for k, loss in losses.items()}
            return losses, [strategy.experimental_local_results(g)[0] for g in gradients]

        losses, gradients = step()
    for key, loss in losses.items():
        arrays[f"loss/{name}{key}"] = loss.numpy()
    for n, gradient in zip(named, gradients):
        arrays[f"gradient/{name}{n.name}"] = gradient.numpy()
    stem = model.backbone.bottom_up.res3[0].conv1.norm
    arrays[f"stored/{name}mean"] = stem.running_mean.numpy()
    arrays[f"stored/{name}var"] = stem.running_var.numpy()


def norms():
    x = np.random.default_rng(0).normal(3, 2, [4, 3, 5, 8]).astype(np.float32)
    for kind in ("BN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N"):
        with strategy.scope():
            norm = BatchNorm(8, kind)

        def on_replica():
            context = tf.distribute.get_replica_context()
            # One image here, three there.
            first = tf.get_static_value(context.replica_id_in_sync_group) == 0
            with batch_statistics():
                return norm(tf.constant(x[:1] if first else x[1:]))

        step = tf.function(lambda: strategy.run(on_replica), autograph=False)
        results = strategy.experimental_local_results(step())
        arrays[f"norm/{kind}"] = np.concatenate([r.numpy() for r in results])
        arrays[f"norm_mean/{kind}"] = norm.running_mean.numpy()
        arrays[f"norm_var/{kind}"] = norm.running_var.numpy()
    arrays["x"] = x


run(1)
run(2)
norms()
np.savez(sys.argv[1], **arrays)
"""


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    result = tmp_path_factory.mktemp("replicas") / "arrays.npz"
    folders = str(ROOT)
    subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, result],
        check=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": folders},
    )
    with np.load(result) as found:
        return dict(found)


def pairs(arrays, kind):
    """What one device and two found, by name."""
    one, two = f"{kind}/1/", f"{kind}/2/"
    names = [key.removeprefix(one) for key in arrays if key.startswith(one)]
    assert names
    return {name: (arrays[one + name], arrays[two + name]) for name in names}


def test_losses(arrays):
    found = pairs(arrays, "loss")
    assert len(found) == 6
    for name, (one, two) in found.items():
        assert one > 0, name
        np.testing.assert_allclose(two, one, rtol=1e-5, err_msg=name)


def test_gradients(arrays):
    for name, (one, two) in pairs(arrays, "gradient").items():
        if name.endswith("score_lowres.bias"):
            # Nothing but rounding: a softmax over the pixels does not see this bias.
            assert max(np.abs(one).max(), np.abs(two).max()) < 1e-6
            continue
        # Of float32 sums in another order, relative to the largest; measured 2e-6.
        np.testing.assert_allclose(two, one, rtol=0, atol=2e-5 * np.abs(one).max(), err_msg=name)


def test_stored_statistics(arrays):
    for one, two in pairs(arrays, "stored").values():
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)


def normalized(x, mean, variance):
    return (x - mean) / np.sqrt(variance + 1e-5)


@pytest.mark.parametrize(
    ("kind", "first"), [("SyncBN", 0.25), ("naiveSyncBN", 0.5), ("naiveSyncBN_N", 0.25)]
)
def test_synchronised_norms(arrays, kind, first):
    """`first` is the weight of the first replica, which has one of the four images."""
    x = arrays["x"].astype(np.float64)
    parts, weights = (x[:1], x[1:]), (first, 1 - first)
    mean = sum(w * p.mean((0, 1, 2)) for w, p in zip(weights, parts, strict=True))
    square = sum(w * (p**2).mean((0, 1, 2)) for w, p in zip(weights, parts, strict=True))
    variance = square - mean**2
    np.testing.assert_allclose(arrays[f"norm/{kind}"], normalized(x, mean, variance), atol=1e-5)
    np.testing.assert_allclose(arrays[f"norm_mean/{kind}"], 0.1 * mean, rtol=1e-5)
    stored = variance if kind.startswith("naive") else variance * 60 / 59
    np.testing.assert_allclose(arrays[f"norm_var/{kind}"], 0.9 + 0.1 * stored, rtol=1e-5)


def test_norms_of_each_replica(arrays):
    x = arrays["x"].astype(np.float64)
    parts = x[:1], x[1:]
    expected = [normalized(p, p.mean((0, 1, 2)), p.var((0, 1, 2))) for p in parts]
    np.testing.assert_allclose(arrays["norm/BN"], np.concatenate(expected), atol=1e-5)
    mean = np.mean([p.mean((0, 1, 2)) for p in parts], 0)
    np.testing.assert_allclose(arrays["norm_mean/BN"], 0.1 * mean, rtol=1e-5)
