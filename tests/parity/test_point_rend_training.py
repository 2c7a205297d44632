"""Three SGD steps of PointRend's narrow models against Detectron2's.

Every anchor and proposal is taken, and the random points are those of the record. Tolerances are
what its README says that a good port reaches: 1e-5, 1e-3 and 1e-2 of the losses in the three steps,
1e-3 of the first gradients' norms.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from pycocotools import mask as coco_mask

from benchmarks.seeded_weights import seeded_model
from tests.support.paths import DEMO
from tests.support.point_rend import (
    draws,
    load_arrays,
    load_training,
    scale_parameters,
    write_config,
)
from tests.support.recorded_steps import (
    load_recorded_config,
    relative_differences,
    take_steps,
    take_steps_on,
)
from tests.support.training_variants import arrays_of
from tfdetect.data.images import read_image
from tfdetect.data.training.transforms import ResizeTransform
from tfdetect.modeling import point_rend_semantic
from tfdetect.modeling.preprocess import normalize_batch
from tfdetect.modeling.roi_heads import point_mask_head
from tfdetect.modeling.structures import Targets

SEEN = ("points_wrt_image", "point_labels", "point_logits")


def recorded_points(monkeypatch, module):
    """Have a module draw the points of the record instead of random ones; which were drawn."""
    draw, asked = draws(7000), []

    def points(seeds, image_indices, num_points, stream):
        def call(count):
            asked.append([int(count), num_points, 2])
            return draw(asked[-1])

        found = tf.numpy_function(call, [tf.size(image_indices)], tf.float32)
        return tf.ensure_shape(found, [None, num_points, 2])

    monkeypatch.setattr(module, "random_points", points)
    return asked


def labelled_batch(cfg, model, ground_truth):
    """Images, sizes and targets of the recorded labels."""
    sizes = np.array([entry["resized_hw"] for entry in ground_truth], np.int32)
    images = np.zeros([len(sizes), *sizes.max(0), 3], np.uint8)
    labels = np.full(images.shape[:3], cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE, np.int32)
    for index, entry in enumerate(ground_truth):
        height, width = entry["resized_hw"]
        image = read_image(DEMO / "images" / entry["file_name"])
        resized = ResizeTransform(*image.shape[:2], height, width).apply_image(image)
        images[index, :height, :width] = resized
        labels[index, :height, :width] = 0
        for label, counts in entry["sem_seg_rle"].items():
            mask = coco_mask.decode({"size": [height, width], "counts": counts})
            labels[index, :height, :width][mask.astype(bool)] = int(label)
    pixels = normalize_batch(
        tf.constant(images),
        sizes,
        cfg.MODEL.PIXEL_MEAN,
        cfg.MODEL.PIXEL_STD,
        model.size_divisibility,
    )
    none = tf.zeros([len(sizes), 1])
    return pixels, tf.constant(sizes), Targets(none, none, none, gt_sem_seg=tf.constant(labels))


@pytest.fixture(
    scope="module",
    params=["instance", "semantic", pytest.param("implicit", marks=pytest.mark.full)],
)
def run(request, tmp_path_factory):
    kind = request.param
    recorded = load_training(kind)
    path = write_config(f"narrow_{kind}_training", tmp_path_factory.mktemp("config"))
    cfg = load_recorded_config(path, recorded)
    model = seeded_model(cfg)
    scale_parameters(model)
    names = [entry["file_name"] for entry in recorded["ground_truth"]]
    with pytest.MonkeyPatch.context() as patch:
        if kind == "semantic":
            asked = recorded_points(patch, point_rend_semantic)
            data = labelled_batch(cfg, model, recorded["ground_truth"])
            steps = take_steps_on(cfg, model, *data, 3, ("point_coords",))
        else:
            asked = recorded_points(patch, point_mask_head)
            steps = take_steps(cfg, model, names, 3, SEEN)
    return SimpleNamespace(kind=kind, recorded=recorded, steps=steps, model=model, asked=asked)


def test_losses(run):
    pairs = zip(run.steps.losses, run.recorded["losses"], (1e-5, 1e-3, 1e-2), strict=True)
    for step, (losses, expected, tolerance) in enumerate(pairs):
        for name, difference in relative_differences(losses, expected).items():
            assert difference <= tolerance, (step, name, losses[name], expected[name])


def test_points_of_the_first_step(run):
    """Of the R regions as Detectron2 has them, at the same points."""
    arrays = load_arrays(f"training_{run.kind}")
    assert run.asked[:2] == run.recorded["torch_rand_calls"][:2]
    if run.kind == "semantic":
        found = run.steps.intermediates["point_coords"]
        np.testing.assert_allclose(found, arrays["step0_point_coords"], rtol=0, atol=1e-6)
        return
    for name, tolerance in (("points_wrt_image", 1e-3), ("point_labels", 1e-4)):
        found = run.steps.intermediates[name]
        np.testing.assert_allclose(found, arrays[f"step0_{name}"], rtol=0, atol=tolerance)
    logits = run.steps.intermediates["point_logits"]
    np.testing.assert_allclose(logits, arrays["step0_point_logits"], rtol=0, atol=5e-4)


def test_first_gradients(run):
    recorded = {name: g["norm"] for name, g in run.recorded["first_gradients"].items()}
    found = {name: np.linalg.norm(g) for name, g in run.steps.first_gradients.items()}
    for name, difference in relative_differences(found, recorded, 1e-6).items():
        assert difference <= 1e-3, (name, found[name], recorded[name])


def test_parameters_in_the_end(run):
    arrays = arrays_of(run.model)
    recorded = run.recorded["parameter_norms_after_3_steps"]
    found = {name: np.linalg.norm(arrays[name]) for name in recorded}
    for name, difference in relative_differences(found, recorded).items():
        assert difference <= 1e-4, name
