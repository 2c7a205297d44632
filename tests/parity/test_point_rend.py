"""PointRend's narrow models against Detectron2's records: stages, masks and labels.

Two images in one batch, which Detectron2 pads, so with its padding. Ten times the noise floor of
the record (Detectron2 with weights moved by a relative 1e-6) is allowed unless said otherwise: 5e-4
in logits of up to 20, 2e-3 pixels in boxes. Points near a tie are chosen one way or the other.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.support.comparison import compare
from tests.support.intermediates import call_with_intermediates
from tests.support.native import using_ops
from tests.support.paths import DEMO
from tests.support.point_rend import (
    assert_same_logits,
    assert_same_points,
    load_arrays,
    narrow_model,
    state_dicts,
)
from tfdetect.checkpoint.names import named_variables
from tfdetect.data.images import read_image
from tfdetect.inference.optimization import optimize
from tfdetect.layers.intermediates import collect_intermediates
from tfdetect.masks.rle import encode_mask
from tfdetect.modeling.postprocess import Postprocessor
from tfdetect.modeling.preprocess import Preprocessor
from tfdetect.ops.backend import Backend
from tfdetect.ops.paste_masks import paste_masks

NAMES = ("000000.jpg", "000001.jpg")
LOGITS = 5e-4


@pytest.fixture(
    scope="module",
    params=["instance", "semantic", pytest.param("implicit", marks=pytest.mark.full)],
)
def model(request, tmp_path_factory):
    """Kind, configuration, model and record."""
    kind = request.param
    cfg, made = narrow_model(kind, tmp_path_factory.mktemp("config"))
    return SimpleNamespace(kind=kind, cfg=cfg, model=made, recorded=load_arrays(f"narrow_{kind}"))


@pytest.fixture(scope="module", params=["native", pytest.param("portable", marks=pytest.mark.full)])
def run(request, model):
    """What the model gives, in the original images; its intermediates; those on given boxes."""
    with using_ops(request.param):
        return _run(model)


def _run(model):
    cfg, recorded = model.cfg, model.recorded
    backend = Backend.for_device()
    network = optimize(model.model, backend)  # as `Predictor` has it
    images = [read_image(DEMO / "images" / name) for name in NAMES]
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    batch = np.zeros([2, *sizes.max(0), 3], np.uint8)
    for slot, image in zip(batch, images, strict=True):
        slot[: image.shape[0], : image.shape[1]] = image
    preprocess = Preprocessor.from_config(cfg, network.size_divisibility)
    postprocess = Postprocessor.from_config(cfg)

    @tf.function(autograph=False)
    @backend.active()
    def call():
        resized, resized_sizes = preprocess(tf.constant(batch), tf.constant(sizes))
        outputs, found = call_with_intermediates(network, resized, resized_sizes)
        given = {}
        if "given_boxes" in recorded:
            with collect_intermediates() as given:
                given["final_probabilities"] = network.roi_heads.mask_head.predict(
                    found,
                    tf.constant(recorded["given_boxes"].reshape(-1, 4)),
                    tf.repeat([0, 1], recorded["given_boxes"].shape[1]),
                    tf.constant(recorded["given_classes"].ravel().astype(np.int32)),
                )
        padded = tf.repeat(tf.shape(resized)[None, 1:3], 2, axis=0)
        result = postprocess(outputs, padded, resized_sizes, tf.constant(sizes))
        return result, outputs, found, given, resized_sizes, padded[0]

    result, outputs, found, given, resized_sizes, padded = call()
    np.testing.assert_array_equal(resized_sizes, recorded["image_sizes"])
    np.testing.assert_array_equal(padded, recorded["padded_hw"])
    return SimpleNamespace(
        result=result, outputs=outputs, found=found, given=given, images=images, **vars(model)
    )


def test_names_and_shapes(model):
    ours = {named.name: list(named.foreign_shape) for named in named_variables(model.model)}
    expected = state_dicts()[f"narrow_{model.kind}"]
    assert ours == {
        name: shape for name, shape in expected.items() if not name.endswith("batches_tracked")
    }


def test_features(run):
    if "feat_p2_sub" not in run.recorded:
        pytest.skip("of the semantic model only the logits are recorded")
    p2 = np.moveaxis(run.found["p2"].numpy(), -1, 1)[:, ::8, ::2, ::2]
    np.testing.assert_allclose(p2, run.recorded["feat_p2_sub"], rtol=0, atol=3e-4)


def test_masks_on_given_boxes(run):
    if run.kind == "semantic":
        pytest.skip("it has no boxes")
    recorded, given = run.recorded, {name: tensor.numpy() for name, tensor in run.given.items()}
    classes = recorded["given_classes"].ravel()
    if run.kind == "instance":
        coarse = np.moveaxis(given["coarse_logits"], -1, 1)
        own = coarse[np.arange(len(classes)), classes]
        np.testing.assert_allclose(own, recorded["given_coarse_logits"], rtol=0, atol=LOGITS)
        np.testing.assert_allclose(
            coarse[:4], recorded["given_coarse_logits_all_classes"], rtol=0, atol=LOGITS
        )
    else:
        parameters = given["parameters"]
        expected = recorded["given_parameters"]
        np.testing.assert_allclose(
            parameters[: len(expected)], expected, rtol=0, atol=1e-4 * np.abs(expected).max()
        )
    initial = given["initial_logits"].reshape(len(classes), -1)
    np.testing.assert_allclose(initial, recorded["given_initial_logits"], rtol=0, atol=LOGITS)
    steps = sum(name.endswith("_indices") for name in recorded)
    assert steps == sum(name.endswith("_indices") for name in given) > 1
    for step in range(steps):
        indices, logits = (given[f"step_{step}_{what}"] for what in ("indices", "logits"))
        theirs = [recorded[f"given_step_{step}_{what}"] for what in ("indices", "logits")]
        assert_same_points(indices, theirs[0])
        assert_same_logits(indices, logits, *theirs, LOGITS)
    final = given["final_probabilities"]
    expected = recorded["given_final_probabilities"]
    difference = np.abs(final[: len(expected), ::4, ::4] - expected)
    # Single points that were or were not chosen: up to 2e-2.
    assert np.quantile(difference, 0.999) < 1e-4
    assert difference.max() < 0.1
    area = recorded["given_final_area_above_half"]
    np.testing.assert_allclose((final > 0.5).sum((1, 2)), area, rtol=0, atol=2)
    mean = recorded["given_final_mean"]
    np.testing.assert_allclose(final.mean((1, 2)), mean, rtol=0, atol=2e-5)


def test_detections_and_pasted_masks(run):
    if run.kind == "semantic":
        pytest.skip("it has no boxes")
    found, recorded = [], []
    for index, (name, image) in enumerate(zip(NAMES, run.images, strict=True)):
        place = {"file_name": name, "height": image.shape[0], "width": image.shape[1]}
        count = int(run.result["num_detections"][index])
        ours = {
            key: run.result[key][index][:count].numpy()
            for key in ("pred_boxes", "scores", "pred_classes", "pred_masks")
        }
        masks = paste_masks(ours.pop("pred_masks"), ours["pred_boxes"], image.shape[:2]).numpy()
        found.append({**place, **ours, "pred_masks": [encode_mask(mask) for mask in masks]})
        counts = json.loads(str(run.recorded[f"pred_masks_rle_{index}"]))
        recorded.append(
            {
                **place,
                "pred_boxes": run.recorded[f"pred_boxes_{index}"],
                "scores": run.recorded[f"pred_scores_{index}"],
                "pred_classes": run.recorded[f"pred_classes_{index}"],
                "pred_masks": [{"size": list(image.shape[:2]), "counts": c} for c in counts],
            }
        )
    total = compare(found, recorded, iou=0.999, score=1e-5)
    assert total.matched == total.expected == 80
    assert total.extra == 0
    assert total.box < 2e-3
    assert np.mean(total.mask_ious) > 0.999
    assert np.min(total.mask_ious) > 0.99


def test_semantic_logits_and_labels(run):
    if run.kind != "semantic":
        pytest.skip("it has no labels")
    recorded, found = run.recorded, {name: tensor.numpy() for name, tensor in run.found.items()}
    coarse = np.moveaxis(found["coarse_logits"], -1, 1)[:, :, ::2, ::2]
    np.testing.assert_allclose(coarse, recorded["coarse_logits"], rtol=0, atol=LOGITS)
    for step in range(2):
        indices, logits = (found[f"step_{step}_{what}"] for what in ("indices", "logits"))
        theirs = recorded[f"step_{step}_logits"].transpose(0, 2, 1)
        assert_same_points(indices, recorded[f"step_{step}_indices"])
        assert_same_logits(indices, logits, recorded[f"step_{step}_indices"], theirs, LOGITS)
    whole = run.outputs.sem_seg_logits.numpy()
    labels = whole.argmax(-1)
    assert np.mean(labels == recorded["padded_argmax"]) > 1 - 1e-4
    differences = np.abs(np.moveaxis(whole, -1, 1)[:, :, ::8, ::8] - recorded["padded_logits_sub"])
    assert np.quantile(differences, 0.999) < LOGITS
    for index, image in enumerate(run.images):
        height, width = image.shape[:2]
        labels = run.result["sem_seg"][index][:height, :width].numpy()
        assert np.mean(labels == recorded[f"argmax_{index}"]) > 1 - 1e-4
