"""Reading COCO's panoptic annotations: ids, semantic classes, and errors that name the file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.support.damaged_json import check_rejected, replaced
from tfdetect.data.panoptic import (
    PanopticSegment,
    read_panoptic,
    read_segment_ids,
    segment_colors,
    segment_ids,
    semantic_labels,
)
from tfdetect.errors import InputError

VALID = {
    "images": [{"id": 7, "file_name": "b.jpg", "height": 2, "width": 3}],
    "categories": [
        {"id": 184, "name": "tree-merged", "isthing": 0},
        {"id": 3, "name": "car", "isthing": 1},
        {"id": 92, "name": "wall-other-merged", "isthing": 0},
        {"id": 1, "name": "person", "isthing": 1},
    ],
    "annotations": [
        {
            "image_id": 7,
            "file_name": "b.png",
            "segments_info": [
                {"id": 66_051, "category_id": 3, "area": 2, "bbox": [0, 0, 1, 2], "iscrowd": 1},
                {"id": 5, "category_id": 184, "area": 3, "iscrowd": 0},
            ],
        }
    ],
}
IDS = np.array([[66_051, 5, 0], [66_051, 5, 5]])


def _write(tmp_path, value, folder="p"):
    (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(segment_colors(IDS)).save(tmp_path / folder / "b.png")
    path = tmp_path / "p.json"
    path.write_text(json.dumps(value))
    return path


def test_what_is_read(tmp_path):
    dataset = read_panoptic(_write(tmp_path, VALID))
    (image,) = dataset.images
    assert (image.id, image.file_name, image.label_file) == (7, "b.jpg", tmp_path / "p" / "b.png")
    assert image.segments == (
        PanopticSegment(66_051, 3, 2, True, (0, 0, 1, 2)),
        PanopticSegment(5, 184, 3, False),
    )
    assert (dataset.thing_ids, dataset.stuff_ids) == ((1, 3), (0, 92, 184))
    # As in Detectron2's metadata of coco_2017_val_panoptic_separated.
    assert dataset.stuff_names == ["things", "wall", "tree"]


def test_pixels(tmp_path):
    dataset = read_panoptic(_write(tmp_path, VALID))
    (image,) = dataset.images
    ids = read_segment_ids(image)
    np.testing.assert_array_equal(ids, IDS)
    labels = semantic_labels(ids, image.segments, dataset.stuff_ids, unlabelled=-1)
    np.testing.assert_array_equal(labels, [[0, 2, -1], [0, 2, 2]])
    assert labels.dtype == np.int32


def test_colours_are_ids_in_base_256():
    # 66051 = 3 + 256 * 2 + 256^2 * 1
    assert segment_colors(np.array([[66_051]])).tolist() == [[[3, 2, 1]]]
    ids = np.array([[0, 1, 255, 256, 256**3 - 1]])
    np.testing.assert_array_equal(segment_ids(segment_colors(ids)), ids)


def test_the_pngs_may_be_where_detectron2_wants_them(tmp_path):
    _write(tmp_path, VALID, folder="panoptic_val2017")
    path = tmp_path / "annotations" / "panoptic_val2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps(VALID))
    (image,) = read_panoptic(path).images
    np.testing.assert_array_equal(read_segment_ids(image), IDS)


def test_missing_and_wrong_pngs_are_named(tmp_path):
    path = _write(tmp_path, VALID)
    (image,) = read_panoptic(path).images
    Image.new("RGB", (4, 4)).save(image.label_file)
    for read in (lambda: read_segment_ids(image), lambda: read_panoptic(path)):
        with pytest.raises(InputError, match=r"b\.png: has 4 x 4 pixels, its image 3 x 2"):
            read()
    image.label_file.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"b\.png: not an image"):
        read_panoptic(path)
    image.label_file.unlink()
    with pytest.raises(InputError, match=r"b\.png"):
        read_segment_ids(image)
    with pytest.raises(InputError, match=r"p\.json: 1 of 1 images is missing, such as .*b\.png"):
        read_panoptic(path)
    image.label_file.parent.rmdir()
    with pytest.raises(InputError, match=r"p\.json: its folder of PNGs is missing"):
        read_panoptic(path)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["images"], None, "'images'"),
        (["images", 0, "width"], "x", r"images\[0\].width"),
        (["categories"], [], "'categories'"),
        (["categories", 0, "isthing"], None, "isthing"),
        (["categories", 0, "id"], 1, "id 1 twice"),
        (["categories", 0, "id"], 0, "id below 1"),
        (["annotations"], None, "'annotations'"),
        (["annotations", 0, "image_id"], 8, "image_id 8"),
        (["annotations", 0, "file_name"], 1, "file_name"),
        (["annotations", 0, "segments_info"], None, "'segments_info'"),
        (["annotations", 0, "segments_info", 0], 3, r"segments_info\[0\]"),
        (["annotations", 0, "segments_info", 0, "id"], 5, "id 5 twice"),
        (["annotations", 0, "segments_info", 0, "id"], 0, "from 1 to"),
        (["annotations", 0, "segments_info", 0, "id"], 256**3, "from 1 to"),
        (["annotations", 0, "segments_info", 0, "category_id"], 9, "category_id 9"),
        (["annotations", 0, "segments_info", 0, "area"], None, r"\[0\].segments_info\[0\].area"),
        (["annotations", 0, "segments_info", 0, "area"], -1, "area is negative"),
        (["annotations", 0, "segments_info", 0, "iscrowd"], "no", "iscrowd is 'no'"),
        (["images", 0, "height"], 0, r"images\[0\].height is 0"),
        (["annotations"], VALID["annotations"] * 2, "id 7 twice"),
    ],
)
def test_what_is_not_panoptic_is_named(tmp_path, where, value, message):
    path = _write(tmp_path, replaced(VALID, where, value))
    check_rejected(read_panoptic, path, message)
