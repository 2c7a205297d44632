"""`predict.py --opts` and `Predictor(opts=)`: what affects prediction only may be changed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.paths import DEMO
from tests.support.predictors import shared_predictor
from tfdetect import Predictor
from tfdetect.cli.command import run_command
from tfdetect.cli.predict import main
from tfdetect.config import load_config
from tfdetect.config.prediction import load_prediction_config
from tfdetect.data.images import read_image
from tfdetect.errors import InputError
from tfdetect.ops.backend import Backend

CONFIG = DEMO / "joint_rcnn" / "config.yaml"
IMAGE = sorted((DEMO / "images").iterdir())[0]
SCORE = "MODEL.ROI_HEADS.SCORE_THRESH_TEST"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (SCORE, 0.5),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.3),
        ("MODEL.RPN.NMS_THRESH", 0.3),
        ("MODEL.RPN.PRE_NMS_TOPK_TEST", 7),
        ("MODEL.RPN.POST_NMS_TOPK_TEST", 7),
        ("MODEL.RETINANET.SCORE_THRESH_TEST", 0.5),
        ("MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH", 0.1),
        ("MODEL.PIXEL_MEAN", [1.0, 2.0, 3.0]),
        ("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 2),
        ("TEST.DETECTIONS_PER_IMAGE", 7),
        ("TEST.KEYPOINT_OKS_SIGMAS", [0.1]),
        ("TEST.AUG.ENABLED", True),
        ("INPUT.MIN_SIZE_TEST", 100),
        ("INPUT.MAX_SIZE_TEST", 100),
        ("INPUT.FORMAT", "RGB"),
        ("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST", 7),
        ("MODEL.MASK_ON", False),
        ("MODEL.KEYPOINT_ON", False),
        ("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 7),
        ("MODEL.POINT_HEAD.SUBDIVISION_STEPS", 7),
        ("MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS", 7),
    ],
)
def test_affects_prediction_only(key, value):
    cfg = load_prediction_config(CONFIG, [key, value])
    assert cfg != load_config(CONFIG)
    assert cfg == load_config(CONFIG, [key, value])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("MODEL.ROI_HEADS.NUM_CLASSES", 5, "the weights were trained with a different value"),
        ("MODEL.RESNETS.DEPTH", 101, "the weights were trained with a different value"),
        ("MODEL.RESNETS.STRIDE_IN_1X1", False, "the weights were trained with a different value"),
        ("MODEL.FPN.OUT_CHANNELS", 128, "the weights were trained with a different value"),
        ("MODEL.ROI_BOX_HEAD.FC_DIM", 7, "the weights were trained with a different value"),
        (
            "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
            9,
            "the weights were trained with a different value",
        ),
        ("MODEL.ROI_MASK_HEAD.NUM_CONV", 1, "the weights were trained with a different value"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[8]], "the weights were trained with a different value"),
        ("MODEL.META_ARCHITECTURE", "RetinaNet", "the weights were trained with a different value"),
        ("MODEL.WEIGHTS", "other.pkl", "give --model instead"),
        ("MODEL.DEVICE", "tpu", "give --device instead"),
        ("SOLVER.BASE_LR", 1.0, "has no effect on inference"),
        ("MODEL.RPN.POST_NMS_TOPK_TRAIN", 7, "has no effect on inference"),
        ("MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.7], "has no effect on inference"),
        ("INPUT.MIN_SIZE_TRAIN", (7,), "has no effect on inference"),
        ("TEST.AUG.FLIP", False, "has no effect without TEST.AUG.ENABLED True"),
        ("MODEL.NOTHING", 1, "unknown key MODEL.NOTHING"),
        (SCORE, "high", "got text"),
    ],
)
def test_refused_with_one_line(key, value, words):
    with pytest.raises(InputError) as caught:
        load_prediction_config(CONFIG, [key, value])
    message = str(caught.value)
    assert message.startswith("opts: ")
    assert key in message
    assert words in message
    assert "\n" not in message


def test_what_is_not_changed_is_not_refused():
    load_prediction_config(CONFIG, ["MODEL.ROI_HEADS.NUM_CLASSES", "4", "MODEL.MASK_ON", "True"])


def test_a_head_cannot_be_added(tmp_path):
    (tmp_path / "config.yaml").write_text(f"_BASE_: {CONFIG}\nMODEL: {{MASK_ON: false}}")
    with pytest.raises(InputError, match="the model has no such head"):
        load_prediction_config(tmp_path / "config.yaml", ["MODEL.MASK_ON", True])


def test_predictor(model_dir):
    image = read_image(IMAGE)
    plain = shared_predictor(model_dir)(image)
    opts = [SCORE, 0.9, "TEST.DETECTIONS_PER_IMAGE", "3", "MODEL.MASK_ON", "False"]
    predictor = Predictor(model_dir, opts=opts)
    found = predictor(image)
    expected = plain.scores[plain.scores > 0.9][:3]
    assert 0 < len(expected) < len(plain.scores)
    np.testing.assert_array_equal(found.scores, expected)
    np.testing.assert_array_equal(found.boxes, plain.boxes[: len(expected)])
    # TensorFlow's convolutions, unlike the native ones, add up in an order that depends on the
    # number of boxes: two have logits within 2e-6 of theirs among thirteen. Scores are a softmax.
    rtol = 0 if Backend.for_device().native_sums else 1e-5
    keypoints = plain.keypoints[: len(expected)]
    np.testing.assert_array_equal(found.keypoints[..., :2], keypoints[..., :2])
    np.testing.assert_allclose(found.keypoints[..., 2], keypoints[..., 2], rtol=rtol)
    assert found.masks is None
    assert plain.masks is not None
    assert tuple(opts) in predictor.__reduce__()[1]
    for wrong in ("SEED 1", None, {SCORE: 0.9}):
        with pytest.raises(InputError, match=r"^opts: is .*; give a list"):
            Predictor(model_dir, opts=wrong)
    with pytest.raises(InputError, match=r"^INPUT\.MIN_SIZE_TEST: is -1"):
        Predictor(model_dir, opts=["INPUT.MIN_SIZE_TEST", -1])


def test_command(model_dir, tmp_path, capfd):
    """The pairs may stand before other options; what has no effect is said in a line."""
    command = ["--model", str(model_dir), "--input", str(IMAGE), "--opts", SCORE, "0.9"]
    command += ["INPUT.MIN_SIZE_TEST", "2000", "--json", str(tmp_path / "found.json")]
    assert main(command) == 0
    assert '"scores"' in (tmp_path / "found.json").read_text()
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("note: INPUT.MIN_SIZE_TEST: has no effect")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--opts", "MODEL.ROI_HEADS.NUM_CLASSES", "5"], "--opts: MODEL.ROI_HEADS.NUM_CLASSES: "),
        (["--opts", SCORE], f"--opts: {SCORE} has no value"),
        (["--opts", "INPUT.MAX_SIZE_TEST", "-1"], "INPUT.MAX_SIZE_TEST: is -1"),
        (["--proposals", "PROPOSALS"], "generates its own proposals"),
    ],
)
def test_command_refuses_with_one_line(model_dir, tmp_path, capfd, arguments, words):
    proposals = tmp_path / "proposals.pkl"
    command = ["--model", str(model_dir), "--json", str(tmp_path / "x.json"), *arguments]
    if "PROPOSALS" in command:
        import pickle

        content = {"ids": [IMAGE.name], "boxes": [np.zeros([1, 4])], "objectness_logits": [[0.0]]}
        proposals.write_bytes(pickle.dumps(content))
        command[command.index("PROPOSALS")] = str(proposals)
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: main([*command, "--input", str(IMAGE)]))
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
