"""`tfdetect dataset check`, `convert` and `show`; training and evaluation on what they take."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tfdetect.cli.dataset
import tfdetect.cli.train
from tests.support.commands import fails
from tests.support.other_formats import (
    SIZES,
    shape,
    write_images,
    write_labelme,
    write_voc,
    write_yolo,
)
from tests.support.paths import DEMO
from tfdetect.config import load_config
from tfdetect.data.coco import read_coco
from tfdetect.data.images import read_image
from tfdetect.data.registry import register_dataset
from tfdetect.data.training.records import training_records
from tfdetect.errors import InputError
from tfdetect.evaluation.registry import open_dataset

TRIANGLE = [[10, 5], [30, 5], [30, 25]]


def run(*arguments):
    return tfdetect.cli.dataset.main([str(argument) for argument in arguments])


def check(capfd, *arguments):
    """Status, text and JSON of a check."""
    capfd.readouterr()
    status = run("check", *arguments)
    return status, capfd.readouterr().out


def coco(folder, change=lambda content: None):
    """COCO's JSON of the small images, with one object in each of two."""
    write_images(folder / "images")
    content = {
        "images": [
            {"id": index, "file_name": f"{name}.png", "height": size[0], "width": size[1]}
            for index, (name, size) in enumerate(SIZES.items(), 1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {
                "id": index,
                "image_id": index,
                "category_id": 1,
                "bbox": [1, 2, 10, 12],
                "area": 100,
                "segmentation": [[1, 2, 11, 2, 11, 14]],
            }
            for index in (1, 2)
        ],
    }
    change(content)
    (folder / "x.json").write_text(json.dumps(content))
    return "--annotations", folder / "x.json", "--images", folder / "images"


def test_check_of_good_data(tmp_path, capfd):
    status, out = check(capfd, *coco(tmp_path), "--json", tmp_path / "found.json")
    assert status == 0
    assert "errors: none" in out
    assert "images   3\nobjects  2\n" in out
    assert ["cat", "2", "2"] in [line.split() for line in out.splitlines()]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["classes"]["dog"] == {"objects": 0, "images": 0}
    assert set(found["notes"]) == {"class without objects", "image without objects"}
    assert found["errors"] == {}


def test_check_finds_everything(tmp_path, capfd):
    """Each kind with its count and the first five; what training stops at one by one."""

    def damage(content):
        content["images"][1]["width"] = 61
        content["images"] += [{"id": 9, "file_name": "none.png", "height": 5, "width": 5}]
        content["images"] += [{"id": 10, "file_name": "d.png", "height": None, "width": 5}]
        content["images"] += [{"id": 11, "file_name": "e.png", "height": 5, "width": 5}]
        first = content["annotations"][0]
        content["annotations"] += [dict(first, id=20 + n, bbox=[0, None]) for n in range(7)]
        content["annotations"] += [dict(first, id=30, segmentation=None)]
        content["annotations"] += [dict(first, id=31, area=None)]
        content["annotations"] += [dict(first, id=32, category_id=3)]
        content["annotations"] += [dict(first, id=33, bbox=[90, 30, 20, 20])]
        content["annotations"] += [dict(first, id=34, bbox=[200, 30, 20, 20])]
        content["annotations"] += [dict(first, id=35, bbox=[20, 30, 0, 5])]
        content["annotations"] += [dict(first, id=36)]
        content["annotations"] += [dict(first, id=37, image_id=99)]

    options = coco(tmp_path, damage)
    (tmp_path / "images" / "e.png").write_bytes(b"no image")
    status, out = check(capfd, *options)
    assert status == 1
    assert "  7 x annotations[…].bbox" in out
    assert out.count(".bbox is a list of 2, must be four numbers") == 5
    assert "      and 2 more" in out
    for part in (
        "x.json: images[4].height is null",
        "annotation 30: has no 'segmentation'",
        "annotation 31: 'area' is null",
        "category_id 3 is not among 'categories'",
        "none.png: is missing",
        "e.png: cannot be read",
        "b.png: has 60 x 50 pixels, in",
        "1 x box partly outside of the image",
        "1 x box outside of the image",
        "1 x box without area",
        "object that is there twice",
    ):
        assert part in out, out


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"images": []}', '{"images": [{"id": 1}, {"id": 1}]}']
)
def test_check_of_a_file_that_is_none(tmp_path, capfd, text):
    options = coco(tmp_path)
    (tmp_path / "x.json").write_text(text)
    status, out = check(capfd, *options)
    assert status == 1
    assert "errors: 1" in out or "errors: 2" in out or "errors: 3" in out
    assert "x.json: " in out


def test_check_of_the_other_formats(tmp_path, capfd):
    labels = write_yolo(tmp_path / "yolo", {"a": "0 .5 .5 .2 .2\n7 .5 .5 1 1\n"})
    status, out = check(capfd, "--annotations", labels)
    assert (status, "a.txt: line 2: class '7' is not one of" in out) == (1, True)
    assert "2 x image without objects" in out
    folder = write_voc(tmp_path / "voc", {"a": [("cat", 5, 1, 2, 2, 0)]})
    status, out = check(capfd, "--annotations", folder)
    assert (status, "a.xml: an object's bndbox has a max below its min" in out) == (1, True)
    folder = write_labelme(
        tmp_path / "labelme",
        {"a": [shape("x", TRIANGLE), shape("x", [[1, 1]], "point")], "b": [shape("x", TRIANGLE)]},
    )
    status, out = check(capfd, "--annotations", folder)
    assert (status, "a.json: shapes[1]: is a 'point'" in out) == (1, True)
    assert "format   LABELME\nimages   2\nobjects  2" in out


def test_check_decodes(tmp_path, capfd):
    options = coco(tmp_path)
    path = tmp_path / "images" / "a.png"
    path.write_bytes(path.read_bytes()[:-30])
    assert check(capfd, *options)[0] == 0
    status, out = check(capfd, *options, "--decode")
    assert status == 1
    assert "a.png: " in out


def test_check_of_masks(tmp_path, capfd):
    from PIL import Image

    write_images(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    for name, (height, width) in SIZES.items():
        Image.fromarray(np.full((height, width), 7, np.uint8)).save(
            tmp_path / "masks" / f"{name}.png"
        )
    (tmp_path / "masks" / "classes.txt").write_text("road\nsky\n")
    status, out = check(capfd, "--annotations", tmp_path / "masks", "--images", tmp_path / "images")
    assert status == 1
    assert "a.png: has the value 7" in out


def test_convert(tmp_path, capfd):
    labels = write_yolo(tmp_path / "yolo")
    path = tmp_path / "out" / "x.json"
    assert run("convert", "--annotations", labels, "--output", path) == 0
    assert "3 images, 3 objects of 2 classes" in capfd.readouterr().out
    dataset = read_coco(path)
    assert dataset.category_names == ("cat", "dog")
    assert dataset.annotations[0]["bbox"] == pytest.approx([40, 4, 20, 12])
    folder = write_voc(tmp_path / "voc", {"a": [("cat", 1, 1, 2, 2, 1), ("", 1, 1, 2, 2, 1)]})
    options = ("--annotations", folder, "--output", path, "--difficult-as-crowds")
    assert run("convert", *options) == 1
    out = capfd.readouterr().out
    assert "left out: " in out
    assert read_coco(path).annotations[0]["iscrowd"] == 1


def test_show(tmp_path, capfd):
    folder = write_labelme(tmp_path / "x", {"a": [shape("x", TRIANGLE)], "b": [], "c": []})
    (folder / "c.png").unlink()
    output = tmp_path / "pictures"
    assert run("show", "--annotations", folder, "--output", output) == 1
    assert "c.png: is missing" in capfd.readouterr().err
    assert sorted(path.name for path in output.iterdir()) == ["a.png", "b.png"]
    assert np.ptp(read_image(output / "a.png")) > 100
    assert run("show", "--annotations", folder, "--output", output, "--count", 1) == 0


def test_what_the_commands_reject(tmp_path, capfd):
    labels = write_yolo(tmp_path / "yolo")
    main = tfdetect.cli.dataset.main
    blocked = tmp_path / "file"
    blocked.touch()
    options = coco(tmp_path / "coco")
    for arguments, message in (
        (("check", "--annotations", tmp_path / "none"), "none: is missing, correct --annotations"),
        (("check", *options[:2]), "does not say where its images are; give --images"),
        (("check", *options[:3], tmp_path / "none"), "--images"),
        (("check", *options, "--json", blocked / "x"), "file is a file"),
        (("show", *options, "--output", blocked / "x"), "file is a file"),
        (("convert", *options, "--output", tmp_path / "y"), "is COCO, which needs none"),
        (("convert", "--annotations", labels, "--output", blocked / "x"), "file is a file"),
        (("convert", "--annotations", labels, "--output", tmp_path), "is a folder"),
    ):
        assert message in fails(capfd, main, *arguments)


def configuration(name, masks):
    opts = ["DATASETS.TRAIN", (name,), "MODEL.ROI_HEADS.NUM_CLASSES", 2]
    opts += ["MODEL.MASK_ON", masks, "MODEL.KEYPOINT_ON", False]
    return load_config(DEMO / "joint_rcnn" / "config.yaml", opts)


def test_records_of_training(tmp_path):
    labels = write_yolo(tmp_path / "yolo")
    register_dataset("small_yolo", labels, tmp_path / "yolo" / "images" / "train")
    first, second = training_records(configuration("small_yolo", False))
    assert first.file_name == str(tmp_path / "yolo" / "images" / "train" / "a.png")
    np.testing.assert_allclose(first.annotations[0].box, [40, 4, 60, 16])
    assert [annotation.class_index for annotation in first.annotations] == [1, 0]
    assert len(second.annotations) == 1
    with pytest.raises(InputError, match=r"labels/train: annotation 1: has no 'segmentation'"):
        training_records(configuration("small_yolo", True))
    # What is changed is read again.
    (labels / "b.txt").write_text("")
    assert len(training_records(configuration("small_yolo", False))) == 1
    (labels / "b.txt").write_text("5 .5 .5 .1 .1")
    with pytest.raises(InputError, match=r"b\.txt: line 1: class '5'"):
        training_records(configuration("small_yolo", False))
    folder = write_labelme(tmp_path / "labelme", {"a": [shape("x", TRIANGLE)]})
    register_dataset("small_labelme", folder, folder)
    (record,) = training_records(configuration("small_labelme", True))
    np.testing.assert_array_equal(record.annotations[0].polygons, [np.ravel(TRIANGLE)])


def test_pascal_voc_of_the_zoo(tmp_path, monkeypatch):
    root = tmp_path / "VOC2007"
    write_voc(root, {"a": [("dog", 1, 1, 9, 9, 1), ("cat", 2, 2, 9, 9, 0)], "b": []})
    (root / "annotations").rename(root / "Annotations")
    (root / "images").rename(root / "JPEGImages")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("a\n")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = configuration("voc_2007_trainval", False)
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 20
    (record,) = training_records(cfg)
    assert [annotation.class_index for annotation in record.annotations] == [11, 7]
    assert not any(annotation.iscrowd for annotation in record.annotations)


@pytest.mark.parametrize("form", ["yolo", "voc", "labelme"])
def test_evaluation(tmp_path, form):
    """Perfect detections have perfect AP, and images are found."""
    if form == "yolo":
        path = write_yolo(tmp_path)
        images = tmp_path / "images" / "train"
    elif form == "voc":
        path = write_voc(tmp_path, {"a": [("cat", 1, 1, 50, 40, 0), ("dog", 1, 1, 9, 9, 1)]})
        images = tmp_path / "images"
    else:
        path = images = write_labelme(tmp_path, {"a": [shape("cat", TRIANGLE)], "b": []})
    dataset = open_dataset(path, ["bbox"], ["cat", "dog"])
    assert dataset.image_folder == images
    results = [
        {"image_id": e["image_id"], "category_id": e["category_id"], "bbox": e["bbox"], "score": 1}
        for e in dataset._annotations
        if not e["iscrowd"]
    ]
    metrics = dataset.evaluate(results)
    assert metrics["bbox"]["AP"] == pytest.approx(100)
    with pytest.raises(InputError, match="which the model does not have"):
        open_dataset(path, ["bbox"], ["dog", "bird"])
