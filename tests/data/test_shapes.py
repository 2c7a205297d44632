"""The synthetic shapes are COCO's format, and the images that Detectron2's results belong to."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.support.paths import DEMO
from tfdetect.data import shapes
from tfdetect.data.coco import read_coco
from tfdetect.data.shapes.__main__ import main
from tfdetect.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of validation: the demo's images are the first of its hundred, drawn with seed 2."""
    folder = tmp_path_factory.mktemp("shapes")
    assert main([str(folder), "6", "2"]) == 0
    return folder


def test_the_demo_is_drawn_again(folder):
    """Drawing depends on the seed and on NumPy's generators; JPEG on OpenCV's encoder."""
    drawn, recorded = (
        json.loads((path / "annotations.json").read_text()) for path in (folder, DEMO)
    )
    assert drawn["categories"] == recorded["categories"]
    assert drawn["images"] == recorded["images"][:6]
    expected = [a for a in recorded["annotations"] if a["image_id"] <= 6]
    assert [a["category_id"] for a in drawn["annotations"]] == [a["category_id"] for a in expected]
    for found, annotation in zip(drawn["annotations"], expected, strict=True):
        np.testing.assert_allclose(found["bbox"], annotation["bbox"], atol=1)
    for number in range(6):
        found, image = (
            cv2.imread(str(path / "images" / f"{number:06d}.jpg")).astype(int)
            for path in (folder, DEMO)
        )
        assert found.shape == image.shape
        # Another version of the encoder may differ by grey levels, another drawing would by dozens.
        assert np.abs(found - image).mean() < 1


def test_it_is_cocos_format(folder):
    dataset = read_coco(folder / "annotations.json")
    assert dataset.category_names == shapes.CLASSES
    for annotation in dataset.annotations:
        visible = np.array(annotation["keypoints"][2::3]) > 0
        assert annotation["num_keypoints"] == visible.sum()
        assert visible.any() == (annotation["category_id"] == 1)
        assert annotation["area"] >= 60


def test_bad_arguments(tmp_path):
    for count, seed in ((0, 1), (1, -1)):
        with pytest.raises(InputError, match=f"{count} images of seed {seed}"):
            shapes.write_shapes(tmp_path, count, seed)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        shapes.write_shapes(tmp_path / "file", 1, 1)
