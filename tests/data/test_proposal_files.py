"""Detectron2's files of proposals."""

from __future__ import annotations

import enum
import pickle
from pathlib import Path

import numpy as np
import pytest

from tfdetect.data.proposal_files import image_names, read_proposals
from tfdetect.errors import InputError

BOXES = [
    np.array([[0, 0, 10, 10], [1, 2, 30, 40], [5, 5, 6, 6]], np.float32),
    np.zeros([0, 4], np.float32),
]
LOGITS = [np.array([0.5, 3.0, -1.0], np.float32), np.zeros([0], np.float32)]
CONTENT = {"ids": [139, "a.jpg"], "boxes": BOXES, "objectness_logits": LOGITS, "bbox_mode": 0}


def write(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_best_first(tmp_path, protocol):
    proposals = read_proposals(write(tmp_path / "p.pkl", CONTENT, protocol))
    np.testing.assert_array_equal(proposals.find(["139"]), BOXES[0][[1, 0, 2]])
    assert proposals.find(["other", "a.jpg"]).shape == (0, 4)


def test_keys_of_detectron_and_boxes_with_width_and_height(tmp_path):
    old = {"indexes": np.array([7]), "scores": LOGITS[:1], "boxes": BOXES[:1], "bbox_mode": 1}
    proposals = read_proposals(write(tmp_path / "p.pkl", old))
    np.testing.assert_array_equal(proposals.find(["7"])[0], [1, 2, 31, 42])


class BoxMode(enum.IntEnum):
    XYXY_ABS = 0
    XYWH_ABS = 1


def test_mode_as_detectron2s_enumeration(tmp_path):
    """Read as the number that it has; nothing of the class is loaded."""
    modes = (1, BoxMode.XYWH_ABS)
    number, enumeration = (
        read_proposals(write(tmp_path / "p.pkl", CONTENT | {"bbox_mode": mode})).boxes
        for mode in modes
    )
    for name, boxes in number.items():
        np.testing.assert_array_equal(enumeration[name], boxes)


def test_names_of_an_image_file():
    assert image_names(Path("val/000000000139.jpg")) == ["000000000139.jpg", "000000000139", "139"]
    assert image_names(Path("a.jpg")) == ["a.jpg", "a"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ids": None}, "ids"),
        ({"boxes": BOXES[:1]}, "1 boxes"),
        ({"boxes": [BOXES[0][:, :3], BOXES[1]]}, "image 139"),
        ({"boxes": [[1, 2, 3, 4], BOXES[1]]}, "not arrays"),
        ({"bbox_mode": 4}, "bbox_mode"),
        ({"bbox_mode": Path}, "bbox_mode is a pathlib"),
    ],
)
def test_refused(tmp_path, change, words):
    path = write(tmp_path / "p.pkl", {**CONTENT, **change})
    with pytest.raises(InputError, match=words) as refusal:
        read_proposals(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_unknown_image_and_missing_file(tmp_path):
    proposals = read_proposals(write(tmp_path / "p.pkl", CONTENT))
    with pytest.raises(InputError, match=r"no proposals of b\.jpg or b"):
        proposals.find(["b.jpg", "b"])
    with pytest.raises(InputError, match="cannot be read"):
        read_proposals(tmp_path / "missing.pkl")
