"""The signature `tta` of a SavedModel: what a Predictor finds with test-time augmentation."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native
from tests.support.servables import IMAGES, model_dir
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.cli import export as export_command
from tfdetect.data.images import read_image
from tfdetect.errors import InputError
from tfdetect.export.saved_model import OP_LIBRARY, servable_backend
from tfdetect.inference.optimization import optimize
from tfdetect.inference.predictor import Predictor

OPTS = ["TEST.AUG.MIN_SIZES", "(160,)", "TEST.AUG.MAX_SIZE", "320"]


@pytest.mark.full
@pytest.mark.parametrize("ops", ["portable", "native"])
def test_the_same_as_a_predictor(ops, tmp_path, capsys):
    if ops == "native":
        require_native()
    command = ["--model", str(model_dir()), "--output", str(tmp_path), "--tta", "--ops", ops]
    export_command.main([*command, "--opts", *OPTS])
    signatures = "serving_default, image_tensor, full_masks, od_api, tta"
    assert f"signatures: {signatures}" in capsys.readouterr().out
    if ops == "native":
        tf.load_op_library(str(tmp_path / "1" / "assets" / OP_LIBRARY))
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    contents = [path.read_bytes() for path in IMAGES[:2]]
    contents.append(tf.io.encode_png(tf.zeros([30, 300, 3], tf.uint8)).numpy())
    found = loaded.signatures["tta"](image_bytes=tf.constant(contents))
    sizes = found["image_sizes"].numpy().tolist()

    cfg, model, metadata = load_model(model_dir(), ["TEST.AUG.ENABLED", True, *OPTS])
    backend = servable_backend(ops)
    predictor = Predictor.of_model(cfg, optimize(model, backend), metadata, backend)
    images = [*map(read_image, IMAGES[:2]), np.zeros([30, 300, 3], np.uint8)]
    for index, expected in enumerate(predictor(images)):
        count = len(expected.scores)
        assert found["num_detections"][index] == count
        assert sizes[index] == [expected.height, expected.width]
        for name, values in (
            ("pred_boxes", expected.boxes),
            ("scores", expected.scores),
            ("pred_classes", expected.classes),
            ("pred_keypoints", expected.keypoints),
        ):
            np.testing.assert_array_equal(found[name][index, :count], values, err_msg=name)
            assert not found[name][index, count:].numpy().any()
        masks = found["pred_masks"][index]
        assert masks.shape[1:] == (28, 28)
        assert not masks[count:].numpy().any()
    assert len(predictor(images[0]).scores) > 5


def test_forms_without_it(tmp_path, capsys):
    command = ["--model", str(model_dir()), "--output", str(tmp_path / "x"), "--format", "onnx"]
    with pytest.raises(SystemExit):
        export_command.main([*command, "--size", "60", "80", "--tta"])
    assert "--tta are for --format saved_model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["TEST.AUG.MIN_SIZES", "()"], r"^TEST\.AUG\.MIN_SIZES: is \(\); give at least one"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", "5"], r"^--opts: MODEL\.ROI_HEADS\.NUM_CLASSES: "),
    ],
)
def test_rejected_at_the_start(opts, message, tmp_path):
    command = ["--model", str(model_dir()), "--output", str(tmp_path / "x"), "--tta"]
    with pytest.raises(InputError, match=message):
        export_command.main([*command, "--opts", *opts])
    assert not (tmp_path / "x").exists()


def test_flip_pairs_that_are_missing_or_wrong(tmp_path):
    folder = shutil.copytree(model_dir(), tmp_path / "model")
    content = json.loads((folder / "metadata.json").read_text())
    command = ["--model", str(folder), "--output", str(tmp_path / "x"), "--tta"]
    for pairs, message in (
        (None, r"^TEST\.AUG\.FLIP: the model's metadata does not say"),
        ([["left_eye", "tail"]], r"metadata\.json: keypoint_flip_map is not a list of pairs"),
        ("left", r"metadata\.json: keypoint_flip_map is not a list of pairs"),
    ):
        (folder / "metadata.json").write_text(json.dumps(content | {"keypoint_flip_map": pairs}))
        with pytest.raises(InputError, match=message):
            export_command.main(command)
