"""Annotations of YOLO, Pascal VOC and labelme: by hand, and as supervision reads them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import supervision
from PIL import Image

from tests.support.other_formats import (
    SIZES,
    YOLO_BOXES,
    shape,
    voc_xml,
    write_images,
    write_labelme,
    write_voc,
    write_yolo,
)
from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.data.other_formats.labelme import read_labelme
from tfdetect.data.other_formats.reading import images_of, other_form
from tfdetect.data.other_formats.voc_objects import read_voc_objects
from tfdetect.data.other_formats.yolo import read_yolo
from tfdetect.data.registry import dataset_metadata
from tfdetect.errors import InputError


def boxes(content, name):
    """XYXY of an image's objects."""
    (image,) = (entry for entry in content.images if entry["file_name"] == name)
    found = [e["bbox"] for e in content.annotations if e["image_id"] == image["id"]]
    return [(x, y, x + width, y + height) for x, y, width, height in found]


def messages(content):
    return [str(error) for error in content.errors]


def as_supervision(content, images_dir):
    """By the image's path, the boxes and classes that supervision's data set has."""
    names = {entry["id"]: entry["file_name"] for entry in content.images}
    found = {str(images_dir / name): [] for name in names.values()}
    for entry in content.annotations:
        x, y, width, height = entry["bbox"]
        path = str(images_dir / names[entry["image_id"]])
        found[path].append([x, y, x + width, y + height, entry["category_id"] - 1])
    return found


def assert_same(content, images_dir, dataset):
    assert content.class_names == dataset.classes
    ours = as_supervision(content, images_dir)
    theirs = {str(path): dataset.annotations[path] for path in dataset.image_paths}
    assert set(theirs) <= set(ours)
    for path, objects in ours.items():
        expected = theirs.get(path)
        count = 0 if expected is None else len(expected)
        assert len(objects) == count
        if count:
            rows = np.array(objects)
            np.testing.assert_allclose(rows[:, :4], expected.xyxy, atol=1e-4)
            np.testing.assert_array_equal(rows[:, 4], expected.class_id)


def test_yolo(tmp_path):
    labels = write_yolo(tmp_path)
    assert other_form(labels) == other_form(tmp_path / "data.yaml") == "YOLO"
    for path in (labels, tmp_path / "data.yaml"):
        content = read_yolo(path, tmp_path / "images" / "train")
        assert content.class_names == ["cat", "dog"]
        assert [entry["file_name"] for entry in content.images] == ["a.png", "b.png", "c.png"]
        assert (content.images[0]["height"], content.images[0]["width"]) == SIZES["a"]
        for name, expected in YOLO_BOXES.items():
            np.testing.assert_allclose(boxes(content, f"{name}.png"), expected)
        assert [entry["category_id"] for entry in content.annotations] == [2, 1, 1]
        (polygon,) = content.annotations[1]["segmentation"]
        np.testing.assert_allclose(polygon, [10, 4, 50, 4, 50, 36])
        assert content.annotations[1]["area"] == pytest.approx(640)
        assert "segmentation" not in content.annotations[0]
        assert not content.errors
    dataset = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images" / "train"), str(labels), str(tmp_path / "data.yaml")
    )
    assert_same(content, tmp_path / "images" / "train", dataset)


def test_yolo_without_names_and_beside_the_images(tmp_path):
    folder = write_images(tmp_path)
    (folder / "a.txt").write_text("\ufeff2 0.5 0.5 0.1 0.1\r\n\r\n", encoding="utf-8")
    assert other_form(folder) == "YOLO"
    content = read_yolo(folder, folder)
    assert content.class_names == ["class 0", "class 1", "class 2"]
    np.testing.assert_allclose(boxes(content, "a.png"), [(45, 18, 55, 22)])
    (folder / "classes.txt").write_text("x\ny\nz\n\n")
    assert read_yolo(folder, folder).class_names == ["x", "y", "z"]
    assert images_of("YOLO", folder) == folder


def test_yolo_images_in_folders_and_on_their_side(tmp_path):
    write_images(tmp_path / "images", {"one/a": (40, 100), "two/a": (50, 60)})
    image = Image.new("RGB", (60, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "images" / "turned.jpg", exif=exif)
    for name in ("one/a", "two/a", "turned"):
        path = tmp_path / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0 .5 .5 1 1")
    content = read_yolo(tmp_path / "labels", tmp_path / "images")
    assert boxes(content, "one/a.png") == [(0, 0, 100, 40)]
    assert boxes(content, "two/a.png") == [(0, 0, 60, 50)]
    assert boxes(content, "turned.jpg") == [(0, 0, 20, 60)]
    assert not content.errors


def test_yolo_keypoints(tmp_path):
    lines = "0 .5 .5 .2 .2 .5 .5 2 0 0 0 .25 .75 1\n"
    labels = write_yolo(tmp_path, {"a": lines}, "[cat]\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]")
    content = read_yolo(labels, tmp_path / "images" / "train")
    assert content.keypoint_names == ["keypoint_0", "left_1", "right_1"]
    assert content.annotations[0]["keypoints"] == [50, 20, 2, 0, 0, 0, 25, 30, 1]
    assert content.annotations[0]["num_keypoints"] == 2
    files = DatasetFiles("x", "YOLO", labels, tmp_path / "images" / "train")
    metadata = dataset_metadata(files)
    assert metadata.keypoint_flip_map == [("left_1", "right_1")]
    labels = write_yolo(tmp_path, {"a": "0 .5 .5 .2 .2 .5 .5 0 0"}, "[cat]\nkpt_shape: [2, 2]")
    content = read_yolo(labels, tmp_path / "images" / "train")
    assert content.annotations[0]["keypoints"] == [50, 20, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "has 4 numbers, must be class x y width height"),
        ("0", "has 1 numbers"),
        ("0 0.5 0.5 0.1 x", "'x' is not a number"),
        ("0 0.5 0.5 0.1 nan", "'nan' is not a number"),
        ("0 0.5 0.5 1e999 .1", "'1e999' is not a number"),
        ("2 0.5 0.5 0.1 0.1", r"class '2' is not one of 0, 1, 2, ... \(there are 2 names\)"),
        ("-1 0.5 0.5 0.1 0.1", "class '-1' is not one of"),
        ("0.5 0.5 0.5 0.1 0.1", "class '0.5' is not one of"),
        ("99999999999999999999 .5 .5 .1 .1", "is not one of"),
        ("0 50 20 10 10", "50 is not a part of the image's size"),
        ("0 0.5 0.5 -0.1 0.1", "-0.1 is not a part|negative"),
        ("0 0.5 0.5 -0.001 0.1", "width or height is negative"),
        ("0 0.1 0.1 0.5 0.1 0.5 1.5", "1.5 is not a part"),
        ("cat 0.5 0.5 0.1 0.1", "'cat' is not a number"),
    ],
)
def test_lines_of_yolo_that_are_broken(tmp_path, line, message):
    labels = write_yolo(tmp_path, {"a": f"0 .5 .5 .1 .1\n\n{line}\n1.0 .5 .5 .1 .1"})
    content = read_yolo(labels, tmp_path / "images" / "train")
    assert len(content.annotations) == 2
    (error,) = content.errors
    with pytest.raises(InputError, match=rf"a\.txt: line 3: .*{message}"):
        raise error


def test_files_of_yolo_that_are_broken(tmp_path):
    labels = write_yolo(tmp_path)
    images = tmp_path / "images" / "train"
    (labels / "d.txt").write_text("0 .5 .5 .1 .1")
    (labels / "b.txt").write_bytes(b"0 \xff")
    (images / "c.png").write_bytes(b"no image")
    content = read_yolo(labels, images)
    assert [entry["file_name"] for entry in content.images] == ["a.png"]
    found = "\n".join(messages(content))
    assert "b.txt: not text in UTF-8 (byte 2)" in found
    assert "c.png: cannot be read" in found
    assert "d.txt: has no image in" in found
    (images / "a.jpg").write_bytes((images / "a.png").read_bytes())
    assert "belongs to two images" in "\n".join(messages(read_yolo(labels, images)))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("{1: dog, 0: cat}", ["cat", "dog"]),
        ("{'0': cat, '1': dog}", ["cat", "dog"]),
        ("[1, 2]", ["1", "2"]),
        ("[猫, 犬]", ["猫", "犬"]),
        ("{0: cat, 2: dog}", "must have a name of each of 0, 1, 2"),
        ("[cat, cat]", "names the class 'cat' twice"),
        ("[]", "names no classes"),
        ("cat", "must be a list of the classes"),
        ("[cat, null]", "'names' has null, must be text"),
        ("[cat, [dog]]", "'names' has a list of 1"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("[cat", "not YAML"),
    ],
)
def test_names_of_yolo(tmp_path, names, expected):
    labels = write_yolo(tmp_path, {"a": "0 .5 .5 .1 .1"}, names)
    images = tmp_path / "images" / "train"
    if isinstance(expected, list):
        assert read_yolo(labels, images).class_names == expected
        return
    with pytest.raises(InputError, match=rf"data\.yaml: .*{expected}"):
        read_yolo(labels, images)


OBJECTS = {
    "a": [("dog", 1, 1, 100, 40, 0), ("cat", 11, 6, 20.5, 10, 1)],
    "b": [("dog", 3, 4, 5, 6, 0)],
    "c": [],
}


def test_voc(tmp_path):
    folder = write_voc(tmp_path, OBJECTS)
    assert other_form(folder) == "VOC"
    content = read_voc_objects(folder, tmp_path / "images")
    assert content.class_names == ["cat", "dog"]
    assert boxes(content, "a.png") == [(0, 0, 100, 40), (10, 5, 20.5, 10)]
    assert [entry["iscrowd"] for entry in content.annotations] == [0, 0, 0]
    measured = read_voc_objects(folder, tmp_path / "images", difficult=True)
    assert [entry["iscrowd"] for entry in measured.annotations] == [0, 1, 0]
    dataset = supervision.DetectionDataset.from_pascal_voc(str(tmp_path / "images"), str(folder))
    dataset.classes, order = sorted(dataset.classes), dataset.classes
    for detections in dataset.annotations.values():  # its classes are in the order of the files
        if len(detections):
            ids = [dataset.classes.index(order[index]) for index in detections.class_id]
            detections.class_id = np.array(ids)
    assert_same(content, tmp_path / "images", dataset)


def test_voc_as_its_lists(tmp_path):
    root = tmp_path / "VOC2007"
    write_voc(root, OBJECTS)
    (root / "annotations").rename(root / "Annotations")
    (root / "images").rename(root / "JPEGImages")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    path = root / "ImageSets" / "Main" / "train.txt"
    path.write_text("b\n")
    assert other_form(path) == "VOC"
    content = read_voc_objects(path, root / "JPEGImages", ["cat", "dog"])
    assert [entry["file_name"] for entry in content.images] == ["b.png"]
    assert content.annotations[0]["category_id"] == 2
    assert images_of("VOC", path) == root / "JPEGImages"
    content = read_voc_objects(path, root / "JPEGImages", ["cat"])
    assert "b.xml: object[0] has the unknown class 'dog'" in messages(content)[0]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "not XML"),
        ("<annotation>", "not XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotation/>', "declares a document type"),
        (voc_xml("a", [("", 1, 1, 2, 2, 0)]), "has the unknown class ''"),
        (voc_xml("a", [("cat", 5, 1, 2, 2, 0)]), "has a max below its min"),
        (voc_xml("a", [("cat", "x", 1, 2, 2, 0)]), "must have four numbers"),
        (voc_xml("a", [("cat", "nan", 1, 2, 2, 0)]), "must have four numbers"),
        (voc_xml("a", [], (-1, 5)), "size must be numbers of pixels"),
    ],
)
def test_voc_that_is_broken(tmp_path, xml, message):
    folder = write_voc(tmp_path, {"b": [("dog", 3, 4, 5, 6, 0)]})
    (folder / "a.xml").write_text(xml)
    content = read_voc_objects(folder, tmp_path / "images")
    assert len(content.annotations) == 1
    assert len(content.errors) == 1
    assert message in messages(content)[0]
    assert "a.xml: " in messages(content)[0]


def test_voc_without_a_size(tmp_path):
    folder = write_voc(tmp_path, {})
    (folder / "a.xml").write_text(voc_xml("a", [("cat", 1, 1, 2, 2, 0)], (0, 0)))
    (image,) = read_voc_objects(folder, tmp_path / "images").images
    assert (image["height"], image["width"]) == SIZES["a"]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_labelme(tmp_path):
    triangle = [[10, 5], [30, 5], [30, 25]]
    pixels = np.zeros((4, 6), bool)
    pixels[1:3, 2:5] = True
    folder = write_labelme(
        tmp_path,
        {
            "a": [
                shape("dog", triangle),
                shape("cat", [[50, 20], [40, 10]], "rectangle"),
                shape("dog", [[60, 20], [63, 24]], "circle"),
                shape("dog", [[7, 3], [12, 6]], "mask", mask=png(pixels)),
            ],
            "b": [
                shape("dog", triangle, group_id=1),
                shape("dog", [[40, 40], [50, 40], [50, 45]], group_id=1),
                shape("cat", triangle, group_id=1),
            ],
        },
    )
    assert other_form(folder) == "LABELME"
    content = read_labelme(folder, folder)
    assert content.class_names == ["cat", "dog"]
    assert not content.errors
    expected = [(10, 5, 30, 25), (40, 10, 50, 20), (55, 15, 65, 25), (7, 3, 12, 6)]
    np.testing.assert_allclose(boxes(content, "a.png"), expected)
    polygon, rectangle, circle, mask, group, alone = content.annotations
    assert polygon["segmentation"] == [[10, 5, 30, 5, 30, 25]]
    assert polygon["area"] == 200
    assert "segmentation" not in rectangle
    assert circle["area"] == pytest.approx(np.pi * 25, rel=0.01)
    decoded = coco_mask.decode(mask["segmentation"])
    assert decoded.sum() == mask["area"] == 6
    assert decoded[4:6, 9:12].all()
    assert boxes(content, "b.png") == [(10, 5, 50, 45), (10, 5, 30, 25)]
    assert len(group["segmentation"]) == 2
    assert len(alone["segmentation"]) == 1


def test_labelme_as_supervision_reads_it(tmp_path):
    if not hasattr(supervision.DetectionDataset, "from_labelme"):
        pytest.skip("this version of supervision has no reader of labelme's files")
    folder = write_labelme(
        tmp_path,
        {
            "a": [
                shape("dog", [[10, 5], [30, 5], [30, 25]]),
                shape("cat", [[50, 20], [40, 10]], "rectangle"),
            ],
            "b": [shape("dog", [[1, 1], [2, 1], [2, 8]], group_id=3)],
        },
    )
    dataset = supervision.DetectionDataset.from_labelme(str(folder), str(folder))
    assert_same(read_labelme(folder, folder), folder, dataset)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (shape("x", [[1, 1], [2, 2]]), "has a polygon of 2 points, must be 3 or more"),
        (shape("x", [[1, 1]], "point"), "is a 'point' of 1 points; polygons, rectangles"),
        (shape("x", [[1, 1], [2, 2]], "linestrip"), "is a 'linestrip'"),
        (shape("x", [[1, 1]], "rectangle"), "is a 'rectangle' of 1 points"),
        (shape("x", [[1, 1], [2, "y"], [3, 3]]), "points is a list of 3, must be pairs"),
        (shape("x", [[1, 1], [2, float("nan")], [3, 3]]), "must be pairs of numbers"),
        (shape("x", [1, 2, 3]), "must be pairs of numbers"),
        (shape("x", None), "points is null"),
        (shape(None, [[1, 1], [2, 2], [3, 3]]), "label is null, must be text"),
        (shape(" ", [[1, 1], [2, 2], [3, 3]]), "label is ' ', must be text"),
        (shape("x", [[1, 1], [2, 2]], "mask"), "'mask' is not a PNG"),
        (shape("x", [[1, 1], [2, 2]], "mask", mask="!"), "'mask' is not a PNG"),
        (shape("x", [[1, 1], [2, 2]], "mask", mask="aGVsbG8="), "'mask' is not a PNG"),
        (shape("x", [[-5, 1], [2, 2]], "mask", mask=png(np.ones((2, 2)))), "does not fit"),
        (None, "is not an object"),
    ],
)
def test_shapes_that_are_broken(tmp_path, entry, message):
    good = shape("dog", [[10, 5], [30, 5], [30, 25]])
    folder = write_labelme(tmp_path, {"a": [good, entry, good]})
    content = read_labelme(folder, folder)
    assert len(content.annotations) == 2
    (error,) = messages(content)
    assert "a.json: shapes[1]: " in error
    assert message in error


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"imagePath": None}, "'imagePath' is null, must name the image"),
        ({"imagePath": ".."}, "must name the image"),
        ({"imageHeight": -3}, "imageHeight and imageWidth must be numbers of pixels"),
        ({"shapes": {}}, "'shapes' is an empty object, must be a list"),
        ({"imageHeight": None, "imagePath": "none.png"}, "none.png: cannot be read"),
    ],
)
def test_files_of_labelme_that_are_broken(tmp_path, more, message):
    folder = write_labelme(tmp_path, {"a": [shape("dog", [[1, 5], [3, 5], [3, 25]])]}, **more)
    content = read_labelme(folder, folder)
    assert not content.annotations
    assert message in messages(content)[0]


def test_where_the_images_of_labelme_are(tmp_path):
    folder = write_labelme(tmp_path / "json", {"a": []}, imagePath="..\\pictures\\a.png")
    write_images(tmp_path / "pictures")
    assert read_labelme(folder, tmp_path / "pictures").images[0]["file_name"] == "a.png"
    (folder / "twice.json").write_text((folder / "a.json").read_text())
    assert "has the image of" in messages(read_labelme(folder, tmp_path / "pictures"))[0]


def test_what_has_another_format(tmp_path):
    dota = tmp_path / "dota"
    dota.mkdir()
    (dota / "a.txt").write_text("1 2 3 4 5 6 7 8 plane 0\n")
    masks = write_images(tmp_path / "masks")
    (masks / "classes.txt").write_text("road\nsky\n")
    (tmp_path / "x.json").write_text('{"shapes": []}')
    for path in (dota, masks, tmp_path / "x.json", tmp_path / "none", tmp_path / "none.yaml"):
        assert other_form(path) is None
