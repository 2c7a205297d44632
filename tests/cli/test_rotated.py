"""Rotated boxes from DOTA's text files through training, evaluation and pictures."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

import tfdetect.cli.evaluate
import tfdetect.cli.predict
import tfdetect.cli.train
from tests.support.rotated_model import NARROW
from tfdetect.data.images import write_image
from tfdetect.data.rotated import corners_of_rotated
from tfdetect.data.training.input import training_dataset
from tfdetect.errors import InputError

SMALL = {
    "DATALOADER.NUM_WORKERS": 0,
    "DATASETS.TRAIN": "('bars',)",
    "DATASETS.TEST": "('bars',)",
    "INPUT.AUGMENTATIONS": "[['RandomRotation', {'angle': [-40, 40]}]]",
    "INPUT.MIN_SIZE_TRAIN": "(96,)",
    "INPUT.MIN_SIZE_TEST": 96,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.ROI_HEADS.NUM_CLASSES": 2,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 30,
    "MODEL.WEIGHTS": "''",
    "SEED": 3,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.STEPS": "()",
    "VIS_PERIOD": 2,
}
BOXES = [[[60, 50, 50, 16, 30], [90, 80, 12, 30, -10]], [[50, 60, 60, 20, -75]]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    (folder / "labelTxt").mkdir()
    for number, boxes in enumerate(BOXES):
        image = np.full([120, 140, 3], 90, np.uint8)
        lines = []
        for index, corners in enumerate(corners_of_rotated(np.array(boxes, float))):
            cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], (0, 200, 90 * index))
            name = ("ship", "harbor")[index]
            lines.append(" ".join([*map(str, corners.ravel()), name, "0"]) + "\n")
        write_image(folder / "images" / f"bars{number}.png", image)
        (folder / "labelTxt" / f"bars{number}.txt").write_text("".join(lines))
    return folder


def command(data, output, **changes):
    options = {**SMALL, "OUTPUT_DIR": output, **changes}
    register = ["--register", "bars", data / "labelTxt", data / "images"]
    words = [word for pair in options.items() for word in pair]
    return [str(word) for word in ["--config-file", NARROW, *register, *words]]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    assert tfdetect.cli.train.main(command(data, output)) == 0
    return output


@pytest.mark.full
def test_train(trained):
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert any("bbox/AP" in line for line in lines)


@pytest.mark.full
def test_evaluate_and_draw(trained, data, tmp_path, capsys):
    model = trained / "model_final"
    arguments = ["--model", model, "--annotations", data / "labelTxt"]
    arguments += ["--output", tmp_path / "measured"]
    tfdetect.cli.evaluate.main([str(word) for word in arguments])
    assert "AP50" in capsys.readouterr().out
    results = json.loads((tmp_path / "measured" / "coco_instances_results.json").read_text())
    assert {len(result["bbox"]) for result in results} == {5}
    assert results[0].keys() == {"image_id", "category_id", "bbox", "score"}
    arguments = ["--model", model, "--input", data / "images", "--output", tmp_path / "pictures"]
    arguments += ["--json", tmp_path / "found.json", "--confidence-threshold", "0"]
    tfdetect.cli.predict.main([str(word) for word in arguments])
    records = json.loads((tmp_path / "found.json").read_text())
    assert {len(box) for record in records for box in record["pred_boxes"]} <= {5}
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_batches_follow_the_rotation(data):
    """The training data's boxes lie on the bars, whose pixels are not grey."""
    from tfdetect.config import load_config
    from tfdetect.data.registry import register_dataset

    register_dataset("bars_again", data / "labelTxt", data / "images")
    options = {**SMALL, "DATASETS.TRAIN": "('bars_again',)"}
    cfg = load_config(NARROW, [str(word) for pair in options.items() for word in pair])
    found = 0
    for batch, _ in zip(training_dataset(cfg, seed=5), range(4), strict=False):
        for image, boxes, valid in zip(
            *(batch[key].numpy() for key in ("image", "gt_boxes", "gt_valid")), strict=True
        ):
            for box in boxes[valid]:
                inner = np.zeros(image.shape[:2], np.uint8)
                shrunk = box * np.array([1, 1, 0.7, 0.7, 1])
                cv2.fillPoly(inner, [np.rint(corners_of_rotated(shrunk)[0]).astype(np.int32)], 1)
                if inner.sum() > 30:
                    found += 1
                    assert (image[inner > 0][:, 1] > 150).mean() > 0.95
    assert found > 4


def test_what_does_not_fit_is_said_at_the_start(data, tmp_path):
    changes = {
        "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
        "MODEL.ANCHOR_GENERATOR.NAME": "DefaultAnchorGenerator",
        "MODEL.RPN.BBOX_REG_WEIGHTS": "(1., 1., 1., 1.)",
        "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": "(1., 1., 1., 1.)",
    }
    with pytest.raises(InputError, match="is DOTA's, whose boxes are rotated"):
        tfdetect.cli.train.main(command(data, tmp_path / "run", **changes))
