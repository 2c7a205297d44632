"""predict.py and the Predictor on images of every kind."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

import tfdetect.cli.predict
from tests.support.paths import DEMO
from tests.support.predictors import shared_predictor
from tests.support.videos import write_video
from tfdetect.data.images import read_image
from tfdetect.data.video import VideoFrames

pytestmark = pytest.mark.usefixtures("shared_predictors")

IMAGE = DEMO / "images" / "000056.jpg"


@pytest.fixture(scope="module")
def predictor(model_dir):
    return shared_predictor(model_dir)


def assert_equal(first, second):
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.classes, second.classes)
    np.testing.assert_array_equal(first.masks, second.masks)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)


def test_files_of_every_kind(model_dir, predictor, tmp_path, capsys):
    """Turned by EXIF, with alpha, grey, palette: each gives what its pixels give as an array."""
    photo = Image.open(IMAGE)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    photo.convert("RGBA").save(tmp_path / "alpha.png")
    photo.convert("L").save(tmp_path / "grey.png")
    photo.convert("P").save(tmp_path / "palette.png")
    photo.convert("CMYK").save(tmp_path / "cmyk.jpg")
    names = ["alpha.png", "cmyk.jpg", "grey.png", "palette.png", "turned.jpg"]
    command = ["--model", str(model_dir), "--input", str(tmp_path / "*.*")]
    command += ["--output", str(tmp_path / "out"), "--json", str(tmp_path / "out" / "found.json")]
    assert tfdetect.cli.predict.main(command) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(names)

    records = json.loads((tmp_path / "out" / "found.json").read_text())
    assert [record["file_name"] for record in records] == names
    for record in records:
        detections = predictor(read_image(tmp_path / record["file_name"]))
        np.testing.assert_array_equal(record["pred_boxes"], detections.boxes)
        assert (record["height"], record["width"]) == (detections.height, detections.width)
        assert cv2.imread(str(tmp_path / "out" / record["file_name"])) is not None
    assert (records[4]["height"], records[4]["width"]) == photo.size  # turned
    plain = predictor(read_image(IMAGE))
    assert_equal(plain, predictor(read_image(tmp_path / "alpha.png")))


def test_a_video(model_dir, predictor, tmp_path):
    """Each frame has what the model finds in it as an image."""
    source = write_video(tmp_path / "a.avi", 3)
    command = ["--model", model_dir, "--input", source, "--json", tmp_path / "found.json"]
    command += ["--batch-size", 2]
    assert tfdetect.cli.predict.main([str(word) for word in command]) == 0
    records = json.loads((tmp_path / "found.json").read_text())
    assert [record["frame"] for record in records] == [0, 1, 2]
    for record, frame in zip(records, VideoFrames(source), strict=True):
        detections = predictor(frame.image)
        assert len(detections) > 0
        assert record["pred_classes"] == detections.classes.tolist()
        # In batches of two, float rounding differs.
        np.testing.assert_allclose(record["pred_boxes"], detections.boxes, atol=1e-3)
        assert (record["height"], record["width"]) == frame.image.shape[:2]


def test_two_inputs_of_one_name_get_two_pictures(model_dir, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(IMAGE, tmp_path / folder / "same.jpg")
    command = ["--model", str(model_dir), "--input", str(tmp_path / "a"), str(tmp_path / "b")]
    assert tfdetect.cli.predict.main([*command, "--output", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["same.jpg", "same_2.jpg"]


def test_threshold_is_for_drawing_only(model_dir, tmp_path, capsys):
    command = ["--model", str(model_dir), "--input", str(IMAGE), "--json", str(tmp_path / "f.json")]
    assert tfdetect.cli.predict.main([*command, "--confidence-threshold", "1"]) == 0
    assert "nothing above 1" in capsys.readouterr().out
    (record,) = json.loads((tmp_path / "f.json").read_text())
    assert len(record["scores"]) > 5
    assert min(record["scores"]) < 0.5


def test_one_array_or_several(predictor):
    image = read_image(IMAGE)
    alone = predictor(image)
    assert len(alone) > 0
    assert alone.masks.shape == (len(alone), *image.shape[:2])
    (listed,) = predictor([image])
    assert_equal(alone, listed)
    for found in predictor(np.stack([image, image])):
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-3)
    assert predictor([]) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (5, 7)])
def test_images_of_a_few_pixels(predictor, shape):
    detections = predictor(np.full([*shape, 3], 128, np.uint8))
    assert (detections.height, detections.width) == shape
    assert np.isfinite(detections.boxes).all()
    assert detections.masks.shape == (len(detections), *shape)


def test_nothing_in_the_image(predictor):
    detections = predictor(np.zeros([200, 300, 3], np.uint8))
    assert detections.boxes.shape == (len(detections), 4)
    assert detections.keypoints.shape == (len(detections), 17, 3)
    assert len(detections.select(detections.scores > 0.9)) == 0
