"""Annotations become records as in Detectron2, and broken ones are dealt with as the key says."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pycocotools.mask as coco_mask
import pytest

from tests.support.training_data import SQUARE, cfg_of, demo_cfg, register, write_dataset
from tfdetect.data import registry
from tfdetect.data.training.mapper import TrainingMapper
from tfdetect.data.training.records import (
    flip_indices,
    training_metadata,
    training_records,
)
from tfdetect.data.training.repeat_factors import repeat_factors
from tfdetect.data.training.transforms import ResizeTransform
from tfdetect.errors import InputError

KEYPOINTS = [4, 6, 2, 0, 0, 0, 9, 9, 1]


@pytest.fixture
def load(tmp_path, request):
    """Write, register and load annotations."""

    def load(annotations, sizes=((40, 60),), category=None, **options):
        name = f"records_of_{request.node.name}"
        register(name, write_dataset(tmp_path, annotations, sizes, category))
        options.setdefault("MODEL__KEYPOINT_ON", False)
        options.setdefault("MODEL__MASK_ON", False)
        return training_records(cfg_of(name, **options))

    return load


@pytest.mark.parametrize("number", [int, float])
def test_whole_numbers_are_resized_as_others(load, number):
    """Detectron2 cuts the resized corners 16.5, 8.25, 49.5, 57.75 to 16, 8, 49, 57 if all four are
    integers in the file, and polygons likewise; docs/parity.md says why this does not.
    """
    entry = {
        "bbox": [number(value) for value in (10, 5, 20, 30)],
        "segmentation": [[number(value) for value in SQUARE[0]]],
    }
    (record,) = load([entry], MODEL__MASK_ON=True)
    example = TrainingMapper("BGR", "polygon", False, None)(
        record, [ResizeTransform(40, 60, 66, 99)]
    )
    np.testing.assert_array_equal(example.boxes, [[16.5, 8.25, 49.5, 57.75]])
    expected = [16.5, 8.25, 49.5, 8.25, 49.5, 57.75, 16.5, 57.75]
    np.testing.assert_allclose(example.polygons[0][0], expected, rtol=1e-15)


def test_demo():
    records = training_records(demo_cfg())
    assert [record.image_id for record in records] == sorted(r.image_id for r in records)
    first = records[0]
    assert (first.height, first.width) == (212, 327)
    assert first.file_name.endswith("demo/images/000000.jpg")
    assert {record.dataset for record in records} == {"demo_shapes"}
    assert all(a.polygons and a.keypoints.shape == (17, 3) for a in first.annotations)
    assert training_records(demo_cfg()) is records


def test_an_annotation(load):
    (record,) = load(
        [{"segmentation": SQUARE, "keypoints": KEYPOINTS}],
        MODEL__MASK_ON=True,
        MODEL__KEYPOINT_ON=True,
        MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=3,
    )
    (annotation,) = record.annotations
    np.testing.assert_array_equal(annotation.box, [10, 5, 30, 35])
    assert (annotation.class_index, annotation.iscrowd) == (0, False)
    np.testing.assert_array_equal(annotation.polygons, SQUARE)
    expected = [[4.5, 6.5, 2], [0.5, 0.5, 0], [9.5, 9.5, 1]]
    np.testing.assert_array_equal(annotation.keypoints, expected)


def test_polygons_without_area_go_and_so_do_objects_of_only_those(load, caplog):
    annotations = [
        {"segmentation": [[1, 2, 3, 4], *SQUARE, [1, 2, 3, 4, 5, 6, 7]]},
        {"segmentation": [[1, 2, 3, 4]]},
        {"segmentation": SQUARE, "image_id": 99},
    ]
    (record,) = load(annotations, MODEL__MASK_ON=True)
    (annotation,) = record.annotations
    np.testing.assert_array_equal(annotation.polygons, SQUARE)
    assert "1 annotations have no polygon" in caplog.text
    assert "1 annotations belong to images" in caplog.text
    # Detectron2 drops them for a model without masks, too.
    assert len(load(annotations)[0].annotations) == 1


def test_images_of_crowds_and_nothing_are_left_out(load):
    sizes = ((40, 60),) * 3
    annotations = [
        {"image_id": 1, "iscrowd": 1},
        {"image_id": 2, "iscrowd": 1},
        {"image_id": 2},
    ]
    assert [record.image_id for record in load(annotations, sizes)] == [2]
    kept = load(annotations, sizes, DATALOADER__FILTER_EMPTY_ANNOTATIONS=False)
    assert [record.image_id for record in kept] == [1, 2, 3]
    with pytest.raises(InputError, match=r"^DATASETS.TRAIN: .* all of 1 annotations are crowds"):
        load(annotations[:1], sizes)
    with pytest.raises(
        InputError,
        match=r"^DATASETS.TRAIN: .* none of 3 images has a usable "
        r"annotation",
    ):
        load([], sizes)


def test_images_of_few_keypoints_are_left_out(load):
    annotations = [{"image_id": 1, "keypoints": KEYPOINTS}, {"image_id": 2}]
    for least, expected in ((0, [1, 2]), (1, [1]), (2, [1])):
        found = load(
            annotations,
            ((40, 60),) * 2,
            MODEL__KEYPOINT_ON=True,
            MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=3,
            MODEL__ROI_KEYPOINT_HEAD__MIN_KEYPOINTS_PER_IMAGE=least,
        )
        assert [record.image_id for record in found] == expected
    with pytest.raises(InputError, match=r"the 1 labelled .*MIN_KEYPOINTS_PER_IMAGE; set that"):
        load(
            annotations[1:],
            ((40, 60),) * 2,
            MODEL__KEYPOINT_ON=True,
            MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=3,
        )


def test_compressed_rle_of_any_shape(load):
    random = np.random.default_rng(0)
    masks = [
        np.asfortranarray(random.random((40, 60)) < share, np.uint8) for share in (0, 0.001, 0.5, 1)
    ]
    masks.append(np.asfortranarray(np.tile(np.arange(40)[:, None] > 30, 60), np.uint8))
    annotations = [
        {"segmentation": {**code, "counts": code["counts"].decode()}}
        for code in map(coco_mask.encode, masks)
    ]
    (record,) = load(annotations, MODEL__MASK_ON=True, INPUT__MASK_FORMAT="bitmask")
    for annotation, mask in zip(record.annotations, masks, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(annotation.rle), mask)


def test_rle(load):
    mask = np.zeros((40, 60), np.uint8, order="F")
    mask[5:20, 10:30] = 1
    compressed = coco_mask.encode(mask)
    flat = mask.ravel(order="F").astype(int)
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    annotations = [
        {"segmentation": {"size": [40, 60], "counts": compressed["counts"].decode()}},
        {"segmentation": {"size": [40, 60], "counts": counts}},
    ]
    (record,) = load(annotations, MODEL__MASK_ON=True, INPUT__MASK_FORMAT="bitmask")
    for annotation in record.annotations:
        np.testing.assert_array_equal(coco_mask.decode(annotation.rle), mask)
    with pytest.raises(InputError, match=r"annotation 1: .*INPUT.MASK_FORMAT bitmask"):
        load(annotations, MODEL__MASK_ON=True)


BROKEN = [
    ({"bbox": [1, 2, 3]}, "bbox"),
    ({"bbox": [1, 2, 3, math.nan]}, "bbox"),
    ({"category_id": 99}, "category_id 99"),
    ({"ignore": 1}, "'ignore'"),
    ({"segmentation": None}, "no 'segmentation'"),
    ({"segmentation": [[1, 2, 3, 4, 5, "x"]]}, "not a list of finite numbers"),
    ({"segmentation": [[1, 2, 3, 4, 5, True]]}, "not a list of finite numbers"),
    ({"segmentation": [[1, 2, 3, 4, 5, math.inf]]}, "not a list of finite numbers"),
    ({"segmentation": [[1, 2, 3, 4, 5, math.nan]]}, "not a list of finite numbers"),
    ({"segmentation": [[[1, 2], [3, 4], [5, 6]]]}, "not a list of finite numbers"),
    ({"segmentation": [None]}, "not a list of finite numbers"),
    ({"segmentation": "1, 2, 3, 4, 5, 6"}, "not polygons or RLE"),
    ({"segmentation": 7}, "not polygons or RLE"),
    ({"iscrowd": None}, "iscrowd is null"),
    ({"segmentation": {"size": [4, 4], "counts": [16]}}, "INPUT.MASK_FORMAT bitmask"),
    ({"keypoints": [1, 2, 3, 4]}, "'keypoints' has 4 numbers, must have 9"),
    ({"keypoints": [1, 2, 2, 4, 5, 2, 7, "x", 2]}, r"'keypoints'\[7\] is 'x'"),
    ({"keypoints": [None] * 9}, r"'keypoints'\[0\] is null"),
    ({"keypoints": [[1, 2, 2], [1, 2, 2], [1, 2]]}, r"'keypoints'\[0\] is a list of 3"),
    ({"keypoints": "none"}, "'keypoints' is 'none'"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_broken_annotations_stop_or_are_skipped(load, caplog, broken, message):
    annotations = [
        {"segmentation": SQUARE, "keypoints": KEYPOINTS},
        {"segmentation": SQUARE, "keypoints": KEYPOINTS} | broken,
    ]
    options = {
        "MODEL__MASK_ON": True,
        "MODEL__KEYPOINT_ON": True,
        "MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS": 3,
    }
    with pytest.raises(InputError, match=message) as error:
        load(annotations, **options)
    assert "annotations.json" in str(error.value)
    assert "DATALOADER.ON_ERROR skip" in str(error.value)
    assert "\n" not in str(error.value)
    (record,) = load(annotations, **options, DATALOADER__ON_ERROR="skip")
    assert len(record.annotations) == 1
    assert "skipped (1 so far)" in caplog.text
    with pytest.raises(InputError, match=r"^DATALOADER.ON_ERROR: 'go' is neither"):
        load(annotations, **options, DATALOADER__ON_ERROR="go")


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [4, 4], "counts": [16]}, r"size \[4, 4\]"),
        ({"size": [40, 60], "counts": [16]}, "do not add up"),
        ({"size": [40, 60], "counts": [-1, 2401]}, "do not add up"),
        ({"size": [40, 60]}, "do not add up"),
        ({"size": [40, 60], "counts": "1"}, "do not add up"),
        ({"size": [40, 60], "counts": "~~"}, "do not add up"),
        ({"size": [40, 60], "counts": "o" * 99}, "do not add up"),
        ({"size": [40, 60], "counts": "\u00e9"}, "do not add up"),
        ({"size": [40, 60], "counts": "\ud800"}, "do not add up"),
        ({"size": [40, 60], "counts": ""}, "do not add up"),
        ({"size": [40, 60], "counts": None}, "do not add up"),
        ({"size": [40, 60], "counts": []}, "do not add up"),
        ({"size": [40, 60], "counts": [2400.5]}, "do not add up"),
        ({"size": [40, 60], "counts": [2**62, 2**62, 2**62, 2**62, 2400]}, "do not add up"),
        ({"size": None, "counts": [2400]}, "size null"),
        ({"size": [60, 40], "counts": [2400]}, r"size \[60, 40\]"),
        ({"counts": [2400]}, "size null"),
    ],
)
def test_broken_rle(load, rle, message):
    with pytest.raises(InputError, match=message):
        load([{"segmentation": rle}], MODEL__MASK_ON=True, INPUT__MASK_FORMAT="bitmask")


def test_the_data_must_fit_the_model(load, tmp_path):
    with pytest.raises(InputError, match=r"^MODEL.ROI_HEADS.NUM_CLASSES: is 3, .* 4 classes"):
        training_metadata(demo_cfg(MODEL__ROI_HEADS__NUM_CLASSES=3))
    with pytest.raises(InputError, match=r"^MODEL.RETINANET.NUM_CLASSES: is 2"):
        training_metadata(
            demo_cfg(MODEL__META_ARCHITECTURE="RetinaNet", MODEL__RETINANET__NUM_CLASSES=2)
        )
    with pytest.raises(InputError, match=r"NUM_KEYPOINTS: is 16, but demo_shapes has 17"):
        training_metadata(demo_cfg(MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=16))
    with pytest.raises(InputError, match=r"^DATASETS.TRAIN: names no data set"):
        training_metadata(demo_cfg(DATASETS__TRAIN=()))
    register("one_class_only", write_dataset(tmp_path, [{}]))
    with pytest.raises(InputError, match=r"demo_shapes and one_class_only have different classes"):
        training_metadata(demo_cfg(DATASETS__TRAIN=("demo_shapes", "one_class_only")))
    with pytest.raises(InputError, match=r"^INPUT.MASK_FORMAT"):
        training_records(demo_cfg(INPUT__MASK_FORMAT="png"))


def test_test_sets_cannot_be_trained_on(tmp_path):
    path = write_dataset(tmp_path, [])
    content = json.loads(path.read_text())
    del content["annotations"]
    path.write_text(json.dumps(content))
    register("a_test_set", path)
    with pytest.raises(InputError, match="has no annotations to train on"):
        training_records(cfg_of("a_test_set", MODEL__KEYPOINT_ON=False))


def test_flip_indices_come_from_the_names(load):
    load([{}])
    indices = flip_indices(training_metadata(demo_cfg()))
    assert indices[:5].tolist() == [0, 2, 1, 4, 3]


def test_lvis(tmp_path, monkeypatch):
    path = tmp_path / "lvis" / "lvis_v1_train.json"
    path.parent.mkdir()
    image = {"id": 5, "height": 40, "width": 60}
    image["coco_url"] = "http://images.cocodataset.org/train2017/000000000005.jpg"
    annotation = {"id": 1, "image_id": 5, "category_id": 1203, "bbox": [1, 2, 3, 4], "area": 12}
    content = {
        "images": [image],
        "categories": [{"id": i, "name": f"c{i}", "frequency": "r"} for i in range(1, 1204)],
        "annotations": [annotation | {"segmentation": SQUARE}, annotation | {"id": 2}],
    }
    path.write_text(json.dumps(content))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    options = {"MODEL__KEYPOINT_ON": False, "MODEL__ROI_HEADS__NUM_CLASSES": 1203}
    with pytest.raises(InputError, match=r"annotations\[1\] \(id 2\): has no 'segmentation'"):
        training_records(cfg_of("lvis_v1_train", **options))
    cfg = cfg_of("lvis_v1_train", DATALOADER__ON_ERROR="skip", **options)
    (tmp_path / "coco" / "train2017").mkdir(parents=True)
    (tmp_path / "coco" / "train2017" / "000000000005.jpg").touch()
    (record,) = training_records(cfg)
    assert record.file_name == str(tmp_path / "coco" / "train2017" / "000000000005.jpg")
    assert [a.class_index for a in record.annotations] == [1202]
    assert registry.dataset_files("lvis_v1_train").form == "LVIS"


def test_repeat_factors(load):
    # Class 0 is in all four images, class 1 in one: sqrt(0.64 / 0.25) = 1.6.
    category = {"id": 7, "name": "common"}
    annotations = [{"image_id": i} for i in (1, 1, 2, 3, 4)]
    first, *others = load(annotations, ((40, 60),) * 4, category)
    rare = replace(first.annotations[0], class_index=1)
    records = [replace(first, annotations=[rare, *first.annotations[1:]]), *others]
    factors = repeat_factors(records, threshold=0.64, sqrt=True)
    np.testing.assert_array_equal(factors, np.array([1.6, 1, 1, 1], np.float32))
    factors = repeat_factors(records, threshold=0.64, sqrt=False)
    np.testing.assert_array_equal(factors, np.array([2.56, 1, 1, 1], np.float32))


def test_missing_images_are_said_at_the_start(load, tmp_path, caplog):
    annotations = [{"image_id": 1}, {"image_id": 2}]
    sizes = ((40, 60),) * 3
    load(annotations, sizes)
    for number in (2, 3):
        (tmp_path / "images" / f"{number}.png").unlink()
    files = registry.dataset_files("records_of_test_missing_images_are_said_at_the_start")
    options = {"MODEL__KEYPOINT_ON": False, "MODEL__MASK_ON": False}
    options["SEED"] = 1
    training_records.__globals__["_load"].cache_clear()
    # The third has no annotations, and is not trained on.
    with pytest.raises(InputError, match=r"1 of 2 images is missing, such as .*2\.png.*ON_ERROR"):
        training_records(cfg_of(files.name, **options))
    options["DATALOADER__ON_ERROR"] = "skip"
    assert len(training_records(cfg_of(files.name, **options))) == 2
    assert "1 of 2 images is missing" in caplog.text
    (tmp_path / "images" / "1.png").unlink()
    training_records.__globals__["_load"].cache_clear()
    with pytest.raises(InputError, match="2 of 2 images are missing"):
        training_records(cfg_of(files.name, **options))


def test_advice_leads_to_a_training(load):
    """What a message says to set is what lets the data be trained on."""
    keypoints = {"MODEL__KEYPOINT_ON": True, "MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS": 3}
    with pytest.raises(InputError, match=r"FILTER_EMPTY_ANNOTATIONS False$"):
        load([])
    assert len(load([], DATALOADER__FILTER_EMPTY_ANNOTATIONS=False)) == 1
    least = "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE"
    with pytest.raises(InputError, match=f"FILTER_EMPTY_ANNOTATIONS False and {least} 0"):
        load([], **keypoints)
    keypoints[least.replace(".", "__")] = 0
    assert len(load([], **keypoints, DATALOADER__FILTER_EMPTY_ANNOTATIONS=False)) == 1
    del keypoints[least.replace(".", "__")]
    with pytest.raises(InputError, match=r"has the 1 labelled keypoints.* MODEL.KEYPOINT_ON False"):
        load([{}], **keypoints)
    assert len(load([{}])) == 1
    with pytest.raises(InputError, match=r"no category of .* has 'keypoints'"):
        load([{}], category={"id": 7, "name": "person"}, **keypoints)


def test_masks_and_keypoints_as_tools_write_them(load):
    annotations = [
        {"segmentation": [str(x) for x in SQUARE[0]], "keypoints": [[4, 6, 2]] * 3},
        {"segmentation": SQUARE, "keypoints": ["4", "6.0", 2.0] * 3, "area": None},
        {"segmentation": {"size": ["40", 60.0], "counts": ["0", 2400.0]}, "keypoints": None},
        {"segmentation": {"size": [4, 4]}, "iscrowd": "1", "keypoints": []},
    ]
    (record,) = load(
        annotations,
        MODEL__MASK_ON=True,
        INPUT__MASK_FORMAT="bitmask",
        MODEL__KEYPOINT_ON=True,
        MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=3,
    )
    flat, text, rle, crowd = record.annotations
    for annotation in (flat, text):
        np.testing.assert_array_equal(annotation.polygons, SQUARE)
        np.testing.assert_array_equal(annotation.keypoints, [[4.5, 6.5, 2]] * 3)
    assert coco_mask.decode(rle.rle).all()
    assert (crowd.iscrowd, crowd.polygons, crowd.rle) == (True, None, None)
    assert not rle.keypoints.any()
    assert not crowd.keypoints.any()


def test_proposals(load, tmp_path):
    """By the image's id; an image without any is broken data."""
    file = tmp_path / "proposals.pkl"
    boxes = [np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)]
    content = {"ids": [1], "boxes": boxes, "objectness_logits": [np.array([0, 1], np.float32)]}
    file.write_bytes(pickle.dumps(content))
    options = {
        "MODEL__PROPOSAL_GENERATOR__NAME": "PrecomputedProposals",
        "DATASETS__PROPOSAL_FILES_TRAIN": (str(file),),
    }
    entries = [{"image_id": 1}, {"image_id": 2}]
    (record,) = load(entries[:1], **options)
    np.testing.assert_array_equal(record.proposals, [[5, 6, 7, 8], [1, 2, 3, 4]])
    with pytest.raises(InputError, match=r"^DATASETS.PROPOSAL_FILES_TRAIN: .* no proposals of 2"):
        load(entries, ((40, 60),) * 2, **options)
    (record,) = load(entries, ((40, 60),) * 2, DATALOADER__ON_ERROR="skip", **options)
    assert record.image_id == 1
    # Another content of the same file is read again.
    content["boxes"] = [boxes[0] + 1]
    file.write_bytes(pickle.dumps(content | {"bbox_mode": 0}))
    (record,) = load(entries[:1], **options)
    np.testing.assert_array_equal(record.proposals[0], [6, 7, 8, 9])
    assert load(entries[:1])[0].proposals is None
