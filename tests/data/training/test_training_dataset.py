"""The tf.data end: documented types, resume, errors, and augmentation that fits its pixels."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native, using_ops
from tests.support.paths import ROOT
from tests.support.training_data import SQUARE, cfg_of, demo_cfg, register, write_dataset
from tfdetect.data.training.input import input_errors, training_dataset
from tfdetect.data.training.records import training_records
from tfdetect.errors import InputError
from tfdetect.masks.polygon_rows import crop_polygon_rows, decode_polygons
from tfdetect.masks.polygons import rasterize_polygons

TYPES = {
    "record": ((4,), tf.int64),
    "image": ((4, None, None, 3), tf.uint8),
    "image_size": ((4, 2), tf.int32),
    "gt_boxes": ((4, None, 4), tf.float32),
    "gt_classes": ((4, None), tf.int32),
    "gt_valid": ((4, None), tf.bool),
    "gt_polygons": ((4, None, 4), tf.float64),
    "gt_keypoints": ((4, None, 17, 3), tf.float32),
}


def take(dataset, count):
    return [{key: value.numpy() for key, value in batch.items()} for batch in dataset.take(count)]


def equal(first, second):
    return all(
        a.keys() == b.keys() and all(a[key].tobytes() == b[key].tobytes() for key in a)
        for a, b in zip(first, second, strict=True)
    )


def test_types_are_as_documented():
    spec = training_dataset(demo_cfg(), seed=1).element_spec
    assert {key: (tuple(value.shape), value.dtype) for key, value in spec.items()} == TYPES
    spec = training_dataset(
        demo_cfg(MODEL__KEYPOINT_ON=False, INPUT__MASK_FORMAT="bitmask"), seed=1, shard=(1, 2)
    ).element_spec
    assert spec["gt_bitmasks"] == tf.TensorSpec([2, None, None, None], tf.bool)
    assert not {"gt_keypoints", "gt_polygons"} & spec.keys()
    spec = training_dataset(
        demo_cfg(MODEL__KEYPOINT_ON=False, MODEL__MASK_ON=False), seed=1
    ).element_spec
    assert not {"gt_keypoints", "gt_polygons", "gt_bitmasks"} & spec.keys()


def test_batches_do_not_depend_on_the_operators():
    require_native()
    batches = []
    for ops in ("native", "portable"):
        with using_ops(ops):
            batches.append(take(training_dataset(demo_cfg(), seed=3), 3))
    assert equal(*batches)


def test_batches_fit_their_images():
    """Objects of one colour: under every augmentation their masks and boxes lie on their pixels."""
    cfg = demo_cfg(INPUT__CROP__ENABLED=True, INPUT__CROP__SIZE=[0.6, 0.6])
    records = training_records(cfg)
    gaps, behind = [], []
    for batch in take(training_dataset(cfg, seed=2), 8):
        for image, record in enumerate(batch["record"]):
            height, width = batch["image_size"][image]
            assert not batch["image"][image, height:].any()
            assert not batch["image"][image, :, width:].any()
            # Of cut polygons, whose ends are rounded in double precision.
            boxes = batch["gt_boxes"][image]
            assert (boxes >= -1e-4).all()
            assert (boxes <= np.array([width, height, width, height]) + 1e-4).all()
            frame = np.array([[0, 0, width, height]], np.float32)
            count = int(batch["gt_valid"][image].sum())
            assert count <= len(records[record].annotations)
            grey = batch["image"][image, :height, :width].astype(float).mean(axis=-1)
            for index in range(count):
                mask = crop_polygon_rows(
                    batch["gt_polygons"][image], frame, np.array([index]), 100
                )[0]
                if mask.sum() < 200:
                    continue
                rows, columns = np.nonzero(mask)
                inside = grey[
                    (rows * height / 100).astype(int), (columns * width / 100).astype(int)
                ]
                gaps.append(inside.std() / max(grey.std(), 1))
                pixel = np.array([width, height, width, height]) / 100
                around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] * pixel
                box = batch["gt_boxes"][image, index]
                inwards = (around - box) / pixel * [1, 1, -1, -1]
                # A raster reaches over an outline by a pixel at most. It misses pointed tips, so
                # how far it may stay behind has no bound.
                assert inwards.min() > -1
                behind.append(inwards.max())
    assert len(gaps) > 20
    # A mask that were elsewhere would see as many colours as the image has.
    assert np.median(gaps) < 0.5
    assert np.median(behind) < 1


AUGMENTATIONS = [
    ["RandomRotation", {"angle": [-40, 40]}],
    ["RandomExtent", {"scale_range": [0.8, 1.4], "shift_range": [0.2, 0.2]}],
    ["RandomContrast", {"intensity_min": 0.8, "intensity_max": 1.2}],
    "MinIoURandomCrop",
    ["RandomFlip", {"horizontal": False, "vertical": True}],
    ["FixedSizeCrop", {"crop_size": [150, 170]}],
]


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_configured_augmentations(mask_format):
    """Masks lie on objects of one colour, within their boxes; batches depend on their number."""
    cfg = demo_cfg(INPUT__AUGMENTATIONS=AUGMENTATIONS, INPUT__MASK_FORMAT=mask_format)
    batches = take(training_dataset(cfg, seed=2), 5)
    assert equal(take(training_dataset(cfg, seed=2, start_batch=3), 2), batches[3:])
    gaps, behind = [], []
    for batch in batches:
        assert batch["image"].shape[1:3] == (150, 170)
        for image in range(4):
            count = int(batch["gt_valid"][image].sum())
            boxes = batch["gt_boxes"][image, :count]
            assert (boxes >= 0).all()
            assert (boxes <= [170, 150, 170, 150]).all()
            if mask_format == "bitmask":
                masks = batch["gt_bitmasks"][image]
            else:
                polygons = decode_polygons(batch["gt_polygons"][image])
                masks = [rasterize_polygons(polygons[n], 150, 170) for n in range(count)]
            grey = batch["image"][image].astype(float).mean(axis=-1)
            for mask, box in zip(masks[:count], boxes, strict=True):
                rows, columns = np.nonzero(mask)
                if len(rows) < 100:
                    continue
                around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                # See above: a raster misses pointed tips.
                inwards = (np.array(around) - box) * [1, 1, -1, -1]
                assert inwards.min() > -1
                behind.append(inwards.max())
                gaps.append(grey[mask].std() / max(grey.std(), 1))
    assert len(gaps) > 10
    assert np.median(gaps) < 0.5
    assert np.median(behind) < 1


def test_resume_and_workers():
    """TensorFlow has run and has threads when the processes start."""
    tf.linalg.matmul(tf.ones([64, 64]), tf.ones([64, 64])).numpy()
    expected = take(training_dataset(demo_cfg(), seed=7), 10)
    cfg = demo_cfg(DATALOADER__NUM_WORKERS=2)
    assert equal(take(training_dataset(cfg, seed=7), 10), expected)
    assert equal(take(training_dataset(cfg, seed=7, start_batch=6), 4), expected[6:])


def test_two_replicas_share_a_batch():
    whole = take(training_dataset(demo_cfg(), seed=7), 2)
    parts = [take(training_dataset(demo_cfg(), seed=7, shard=(k, 2)), 2) for k in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        joined = np.concatenate([first["image"], second["image"]])
        np.testing.assert_array_equal(joined, batch["image"])


def test_in_a_step_and_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    dataset = strategy.experimental_distribute_dataset(training_dataset(demo_cfg(), seed=7))

    @tf.function(autograph=False)
    def step(batch):
        return tf.reduce_sum(tf.cast(batch["image"], tf.float32)) + tf.reduce_sum(batch["gt_boxes"])

    batches = iter(dataset)
    values = [float(strategy.run(step, (next(batches),))) for _ in range(3)]
    expected = take(training_dataset(demo_cfg(), seed=7), 3)
    # A sum of a few hundred thousand integers up to 255 in float32, in another order.
    sums = [batch["image"].sum() + batch["gt_boxes"].sum() for batch in expected]
    np.testing.assert_allclose(values, sums, rtol=1e-4)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_are_named_and_skips_logged(tmp_path, caplog, num_workers):
    annotations = [{"image_id": i, "segmentation": SQUARE} for i in (1, 2)]
    path = write_dataset(tmp_path, annotations, ((40, 60),) * 2)
    (tmp_path / "images" / "2.png").write_bytes(b"")
    name = f"an_empty_image_{num_workers}"
    register(name, path)
    options = {"MODEL__KEYPOINT_ON": False, "DATALOADER__NUM_WORKERS": num_workers}
    with pytest.raises(InputError, match=r"2.png: the file is empty") as error, input_errors():
        take(training_dataset(cfg_of(name, **options), seed=0), 2)
    assert "\n" not in str(error.value)
    take(training_dataset(cfg_of(name, DATALOADER__ON_ERROR="skip", **options), seed=0), 1)
    assert "2.png: the file is empty" in caplog.text


def test_other_errors_of_tensorflow_pass():
    with pytest.raises(tf.errors.InvalidArgumentError), input_errors():
        tf.ensure_shape(tf.zeros([2]), [3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"SOLVER__IMS_PER_BATCH": 3}, r"^SOLVER.IMS_PER_BATCH: 3 is not a multiple of 2"),
        ({"SOLVER__IMS_PER_BATCH": 0}, r"^SOLVER.IMS_PER_BATCH"),
        ({"DATALOADER__NUM_WORKERS": -1}, r"^DATALOADER.NUM_WORKERS"),
        ({"DATALOADER__SAMPLER_TRAIN": "RandomSampler"}, r"^DATALOADER.SAMPLER_TRAIN"),
        ({"INPUT__FORMAT": "L"}, r"^INPUT.FORMAT"),
        ({"DATASETS__TRAIN": ("nowhere",)}, r"^DATASETS.TRAIN"),
    ],
)
def test_configurations_that_cannot_be_used(options, message):
    with pytest.raises(InputError, match=message):
        training_dataset(demo_cfg(**options), seed=0, shard=(0, 2))


def test_large_scale_jitter_and_repeat_factors():
    cfg = demo_cfg(
        INPUT__LARGE_SCALE_JITTER__ENABLED=True,
        INPUT__LARGE_SCALE_JITTER__SIZE=64,
        INPUT__MASK_FORMAT="bitmask",
        DATALOADER__SAMPLER_TRAIN="RepeatFactorTrainingSampler",
        DATALOADER__REPEAT_THRESHOLD=1.0,
    )
    for batch in take(training_dataset(cfg, seed=0), 4):
        assert batch["image"].shape == (4, 64, 64, 3)
        valid = batch["gt_valid"]
        assert (batch["gt_bitmasks"].any(axis=(2, 3)) == valid).all()


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.data.training.test_training_dataset import demo_cfg, training_dataset
iterator = iter(training_dataset(demo_cfg(DATALOADER__NUM_WORKERS=1), seed=0))
next(iterator)
sys.exit(3)
"""


def test_a_program_ends_though_its_iterator_is_alive():
    script = SCRIPT.format(root=str(ROOT))
    assert subprocess.run([sys.executable, "-c", script], timeout=100).returncode == 3


def test_the_device_does_not_wait(tmp_path):
    """A step of the demo takes over 0.1 s; batches that are ready take a fraction of that."""
    cfg = demo_cfg(DATALOADER__NUM_WORKERS=2, SOLVER__IMS_PER_BATCH=8)
    iterator = iter(training_dataset(cfg, seed=0))
    next(iterator)
    waits = []
    for _ in range(5):
        time.sleep(0.3)
        start = time.perf_counter()
        next(iterator)
        waits.append(time.perf_counter() - start)
    assert np.median(waits) < 0.03
