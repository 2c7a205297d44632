"""The two halves of a Faster R-CNN through the commands: RPN alone, and Fast R-CNN.

The proposals that the one model makes, written as Detectron2 writes them and given to the other,
must lead to the detections of the whole model.
"""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import convert_d2.command
import tfdetect.cli.predict
from tests.support.paths import DEMO
from tfdetect.checkpoint.formats.reader import read_checkpoint
from tfdetect.errors import InputError
from tfdetect.inference.predictor import Predictor

IMAGES = [str(DEMO / "images" / f"0000{number}.jpg") for number in (33, 41)]
TRIMMED = ["MODEL.MASK_ON", "False", "MODEL.KEYPOINT_ON", "False"]
HALVES = {
    "whole": ([], ("backbone.", "proposal_generator.", "roi_heads.box")),
    "rpn": (["MODEL.META_ARCHITECTURE", "ProposalNetwork"], ("backbone.", "proposal_generator.")),
    "fast_rcnn": (
        ["MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals", "MODEL.LOAD_PROPOSALS", "True"],
        ("backbone.", "roi_heads.box"),
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halves")
    arrays = read_checkpoint(DEMO / "joint_rcnn" / "model_final.pkl").arrays
    for name, (options, prefixes) in HALVES.items():
        kept = {key: value for key, value in arrays.items() if key.startswith(prefixes)}
        (folder / "weights.pkl").write_bytes(pickle.dumps({"model": kept}))
        command = ["--config-file", str(DEMO / "joint_rcnn" / "config.yaml")]
        command += ["--weights", str(folder / "weights.pkl"), "--output", str(folder / name)]
        assert convert_d2.command.main([*command, "--opts", *TRIMMED, *options]) == 0
    return folder


def predict(model, output, *more):
    command = ["--model", str(model), "--input", *IMAGES, "--json", str(output), *more]
    assert tfdetect.cli.predict.main(command) == 0
    return json.loads(output.read_text())


def test_fast_rcnn_on_the_proposals_of_the_rpn(models, tmp_path):
    """Boxes within 0.01 pixels: the proposals go to the original image and back in float32."""
    proposals = predict(models / "rpn", tmp_path / "rpn.json")
    content = {
        "ids": [record["file_name"] for record in proposals],
        "boxes": [np.array(record["pred_boxes"], np.float32) for record in proposals],
        "objectness_logits": [np.array(record["scores"], np.float32) for record in proposals],
        "bbox_mode": 0,
    }
    assert all(set(record["pred_classes"]) == {0} for record in proposals)
    assert all(np.all(np.diff(logits) <= 0) for logits in content["objectness_logits"])
    (tmp_path / "box_proposals.pkl").write_bytes(pickle.dumps(content))
    given = ["--proposals", str(tmp_path / "box_proposals.pkl"), "--batch-size", "2"]
    found = predict(models / "fast_rcnn", tmp_path / "found.json", *given)
    expected = predict(models / "whole", tmp_path / "expected.json", "--batch-size", "2")
    for ours, theirs in zip(found, expected, strict=True):
        assert len(theirs["scores"]) > 0
        assert ours["pred_classes"] == theirs["pred_classes"]
        np.testing.assert_allclose(ours["pred_boxes"], theirs["pred_boxes"], rtol=0, atol=0.01)
        np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=0, atol=1e-4)


def test_proposals_are_asked_for_and_refused(models):
    image = np.zeros([20, 30, 3], np.uint8)
    fast_rcnn, whole = Predictor(models / "fast_rcnn"), Predictor(models / "whole")
    with pytest.raises(InputError, match=r"PROPOSAL_GENERATOR.*--proposals"):
        fast_rcnn(image)
    with pytest.raises(InputError, match="leave them out"):
        whole(image, np.zeros([1, 4]))
    with pytest.raises(InputError, match=r"expected float \[P, 4\]"):
        fast_rcnn(image, np.zeros([4]))
    assert len(fast_rcnn(image, np.zeros([0, 4]))) == 0
    assert fast_rcnn([], []) == []


def test_proposals_have_recall_and_no_average_precision(models, tmp_path):
    command = ["--model", str(models / "rpn"), "--evaluate", str(DEMO / "annotations.json")]
    command += ["--images", str(DEMO / "images"), "--output", str(tmp_path)]
    assert tfdetect.cli.predict.main(command) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics) == {"box_proposals"}
    assert 0 < metrics["box_proposals"]["AR@100"] <= metrics["box_proposals"]["AR@1000"] <= 100
