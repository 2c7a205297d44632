"""The trained models of Detectron2 on real JPEG files, through the two commands.

Detectron2 disturbed by a relative 1e-6 still matches itself on all 1229 detections, with scores
within 1.5e-5 and boxes within 0.001 pixels: nothing here is left to noise.
"""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import tensorflow as tf

import convert_d2.command
import tfdetect.cli.predict
from tests.support.comparison import compare
from tests.support.intermediates import call_with_intermediates
from tests.support.native import IMPLEMENTATIONS, require_native, using_ops
from tests.support.paths import DATA, DEMO
from tests.support.predictors import shared_predictor
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.data.images import read_image

pytestmark = pytest.mark.usefixtures("shared_predictors")

TINY = DATA / "tiny"
VARIANTS = {
    "faster_rcnn": {"MODEL.MASK_ON": False, "MODEL.KEYPOINT_ON": False},
    "mask_rcnn": {"MODEL.MASK_ON": True, "MODEL.KEYPOINT_ON": False},
    "keypoint_rcnn": {"MODEL.MASK_ON": False, "MODEL.KEYPOINT_ON": True},
    "joint_rcnn": {"MODEL.MASK_ON": True, "MODEL.KEYPOINT_ON": True},
}


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory):
    """The four models, each converted from a checkpoint that holds its arrays and no others."""
    folder = tmp_path_factory.mktemp("models")
    arrays = read_checkpoint(DEMO / "joint_rcnn" / "model_final.pkl").arrays
    dirs = {}
    for name, options in VARIANTS.items():
        unwanted = [
            f"roi_heads.{head}_head."
            for head in ("mask", "keypoint")
            if not options[f"MODEL.{head.upper()}_ON"]
        ]
        kept = {key: a for key, a in arrays.items() if not key.startswith(tuple(unwanted))}
        weights = folder / f"{name}.pkl"
        weights.write_bytes(pickle.dumps({"model": kept, "__author__": "test"}))
        dirs[name] = folder / name
        command = ["--config-file", str(DEMO / "joint_rcnn" / "config.yaml")]
        command += ["--weights", str(weights), "--output", str(dirs[name])]
        command += ["--metadata", str(DEMO / "annotations.json"), "--opts"]
        command += [str(item) for pair in options.items() for item in pair]
        assert convert_d2.command.main(command) == 0
    return dirs


def check(name, found, recorded):
    differences = compare(found, recorded, iou=0.999, score=1e-4)
    assert differences.matched == differences.expected, differences.unmatched
    assert differences.extra == 0
    if "mask_rcnn" in name or "joint" in name:
        assert np.mean(differences.mask_ious) > 0.999
    if "keypoint" in name or "joint" in name:
        assert np.mean(np.array(differences.keypoints) <= 0.02) >= 0.995


# The joint model has what the others have, from the same weights.
CASES = [
    ("joint_rcnn", "native"),
    ("faster_rcnn", "native"),
    pytest.param("mask_rcnn", "native", marks=pytest.mark.full),
    pytest.param("keypoint_rcnn", "native", marks=pytest.mark.full),
    pytest.param("joint_rcnn", "portable", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("name", "operators"), CASES)
def test_detections_and_average_precision(model_dirs, tmp_path, name, operators):
    if operators == "native":
        require_native()
    command = ["--model", str(model_dirs[name]), "--evaluate", str(DEMO / "annotations.json")]
    command += ["--images", str(DEMO / "images"), "--output", str(tmp_path / "results")]
    command += ["--json", str(tmp_path / "detections.json")]
    with using_ops(operators):
        assert tfdetect.cli.predict.main(command) == 0

    found = json.loads((tmp_path / "detections.json").read_text())
    recorded = json.loads((TINY / f"{name}.json").read_text())
    check(name, found, recorded)
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    expected = json.loads((TINY / "detectron2_coco_ap.json").read_text())[name]
    assert metrics.keys() == expected.keys()
    for task, values in expected.items():
        for metric, value in values.items():
            if np.isnan(value):
                assert metrics[task][metric] is None
            else:
                assert abs(metrics[task][metric] - value) <= 0.05, (task, metric)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_batches_of_eight_sizes_as_alone(model_dirs, tmp_path, implementation):
    """What Detectron2 finds in each image alone, in batches that padding would disturb."""
    recorded = json.loads((TINY / "joint_rcnn.json").read_text())[:16]
    command = ["--model", str(model_dirs["joint_rcnn"]), "--batch-size", "8", "--input"]
    command += [str(DEMO / "images" / image["file_name"]) for image in recorded]
    assert tfdetect.cli.predict.main([*command, "--json", str(tmp_path / "out.json")]) == 0
    check("joint_rcnn", json.loads((tmp_path / "out.json").read_text()), recorded)


def test_alone_there_is_no_padding_to_differ_in(model_dirs):
    """To the bit."""
    image = read_image(DEMO / "images" / "000000.jpg")
    own, detectron2 = (
        shared_predictor(str(model_dirs["joint_rcnn"]), padding=padding)._pipeline.detect_pixels(
            image.reshape(-1, 3), [image.shape[:2]]
        )
        for padding in ("own", "detectron2")
    )
    for key, expected in detectron2.items():
        np.testing.assert_array_equal(own[key], expected, err_msg=key)
    assert own["num_detections"][0] > 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_batches_padded_as_detectron2_pads_them(model_dirs, tmp_path, implementation):
    recorded = json.loads((TINY / "batch_joint_rcnn.json").read_text())
    command = ["--model", str(model_dirs["joint_rcnn"]), "--batch-size", "4"]
    command += ["--padding", "detectron2", "--input"]
    command += [str(DEMO / "images" / image["file_name"]) for image in recorded]
    assert tfdetect.cli.predict.main([*command, "--json", str(tmp_path / "out.json")]) == 0
    check("joint_rcnn", json.loads((tmp_path / "out.json").read_text()), recorded)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_stages(model_dirs, implementation):
    """Every recorded tensor within 1e-4 of its scale (measured: a few 1e-6)."""
    recorded = dict(np.load(TINY / "intermediates_joint_rcnn.npz"))
    _, model, _ = load_model(model_dirs["joint_rcnn"])
    images = np.transpose(recorded.pop("input"), [0, 2, 3, 1])
    sizes = tf.constant(recorded.pop("image_sizes"), tf.int32)

    @tf.function(autograph=False)
    def run():
        _, intermediates = call_with_intermediates(model, images, sizes)
        heads = model.roi_heads
        boxes = tf.reshape(intermediates["proposals"][:, :6], [-1, 4])
        owner = tf.repeat([0, 1], 6)
        features = [intermediates[name] for name in ("p2", "p3", "p4", "p5")]
        intermediates["mask_logits_of_first_6_proposals"] = heads.mask_head(
            heads.mask_pooler(features, boxes, owner)
        )
        intermediates["keypoint_heatmaps_of_first_6_proposals"] = heads.keypoint_head(
            heads.keypoint_pooler(features, boxes, owner)
        )
        for name in ("box_logits", "box_deltas"):
            intermediates[name] = tf.reshape(
                intermediates[name], [-1, intermediates[name].shape[-1]]
            )
        for image in (0, 1):
            intermediates[f"proposals_{image}"] = intermediates["proposals"][image]
            intermediates[f"proposal_logits_{image}"] = intermediates["proposal_logits"][image]
        return intermediates

    intermediates = run()
    for name, expected in recorded.items():
        result = intermediates[name].numpy()
        if result.ndim == 4:
            # Of the feature maps the record holds every fourth channel.
            result = np.transpose(result, [0, 3, 1, 2])
            result = result[:, :: result.shape[1] // expected.shape[1]]
        np.testing.assert_allclose(
            result, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name
        )


def test_training_checkpoint_is_the_same_model(tmp_path):
    """The .pth with optimizer and scheduler beside the model converts to the same variables."""
    for weights in (DEMO / "joint_rcnn" / "model_final.pkl", TINY / "joint_rcnn.pth"):
        command = ["--config-file", str(DEMO / "joint_rcnn" / "config.yaml")]
        command += ["--weights", str(weights), "--output", str(tmp_path / weights.suffix[1:])]
        assert convert_d2.command.main(command) == 0
    models = [load_model(tmp_path / kind) for kind in ("pkl", "pth")]
    for first, second in zip(*(model.variables for _, model, _ in models), strict=True):
        np.testing.assert_array_equal(first, second)
    assert models[0][2]["class_names"] == ["class 0", "class 1", "class 2", "class 3"]
