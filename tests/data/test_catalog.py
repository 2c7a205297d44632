"""Names of the zoo's data sets are Detectron2's; others are read from COCO files or numbered."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.support.paths import DEMO, ROOT
from tfdetect.config import load_config
from tfdetect.config.capabilities import capabilities
from tfdetect.data.catalog import metadata, metadata_from_coco, numbered
from tfdetect.errors import InputError


def configs():
    return sorted(
        path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml")
    )


@pytest.mark.parametrize("name", configs())
def test_every_config_names_data_sets_that_fit_its_model(name):
    cfg = load_config(ROOT / "configs" / name)
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        known = metadata(dataset)
        assert known is not None, dataset
        if capabilities(cfg).has_boxes:
            assert len(known.thing_classes) == cfg.MODEL.ROI_HEADS.NUM_CLASSES
        if cfg.MODEL.META_ARCHITECTURE in ("PanopticFPN", "SemanticSegmentor"):
            assert known.stuff_classes is not None
            assert len(known.stuff_classes) == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        if cfg.MODEL.KEYPOINT_ON:
            assert known.keypoint_names is not None
            assert len(known.keypoint_names) == cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS


def test_coco():
    coco = metadata("coco_2017_val")
    assert coco.thing_colors[:2] == [(220, 20, 60), (119, 11, 32)]
    assert (coco.stuff_classes, coco.stuff_colors, coco.stuff_category_ids) == (None, None, None)
    by_id = dict(zip(coco.category_ids, coco.thing_classes, strict=True))
    assert len(by_id) == 80
    assert (by_id[1], by_id[13], by_id[90]) == ("person", "stop sign", "toothbrush")
    assert coco.category_ids == sorted(coco.category_ids)
    assert coco.keypoint_names is None
    coco.thing_classes.clear()  # a copy
    assert len(metadata("coco_2017_val").thing_classes) == 80


def test_coco_panoptic():
    panoptic = metadata("coco_2017_val_100_panoptic_separated")
    assert panoptic == metadata("coco_2017_train_panoptic_stuffonly")
    without = {"stuff_classes": None, "stuff_colors": None, "stuff_category_ids": None}
    assert dataclasses.replace(panoptic, **without) == metadata("coco_2017_val")
    names, ids, colors = (
        panoptic.stuff_classes,
        panoptic.stuff_category_ids,
        panoptic.stuff_colors,
    )
    assert len(names) == len(ids) == len(colors) == 54
    # Detectron2's class 0 is all things together; COCO's own names end in -other and -merged.
    assert (names[0], ids[0], colors[0]) == ("things", 0, (82, 18, 128))
    assert (names[1], ids[1], colors[1]) == ("banner", 92, (255, 255, 128))
    assert (names[-1], ids[-1], colors[-1]) == ("rug", 200, (250, 141, 255))
    assert "tree" in names
    assert ids == sorted(ids)
    assert not set(ids) & set(panoptic.category_ids)


def test_every_class_has_a_colour_of_its_own():
    for name in ("coco_2017_val", "lvis_v0.5_val", "lvis_v1_val", "voc_2007_test"):
        known = metadata(name)
        assert len(known.thing_colors) == len(known.thing_classes)
        assert all(0 <= value <= 255 for color in known.thing_colors for value in color)
        if name != "coco_2017_val":  # COCO's own has repetitions
            assert len(set(known.thing_colors)) == len(known.thing_colors)
    # The devkit's: aeroplane, bicycle, bird, ..., tvmonitor.
    voc = metadata("voc_2007_test").thing_colors
    assert voc[:3] == [(128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert voc[-1] == (0, 64, 128)


def test_person_keypoints():
    person = metadata("keypoints_coco_2017_val")
    assert (person.thing_classes, person.category_ids) == (["person"], [1])
    names = person.keypoint_names
    assert (len(names), names[0], names[16]) == (17, "nose", "right_ankle")
    assert person.keypoint_flip_map[0] == ("left_eye", "right_eye")
    assert len(person.keypoint_flip_map) == 8
    lines = [(names[a], names[b]) for a, b in person.keypoint_connections]
    assert len(lines) == 14
    assert ("left_shoulder", "left_elbow") in lines
    assert ("right_knee", "right_ankle") in lines


def test_lvis_voc_cityscapes():
    v05, v1 = metadata("lvis_v0.5_val"), metadata("lvis_v1_val")
    assert (len(v05.thing_classes), len(v1.thing_classes)) == (1230, 1203)
    assert v1.category_ids == list(range(1, 1204))
    assert (v1.thing_classes[0], v1.thing_classes[-1]) == ("aerosol_can", "zucchini")
    voc = metadata("voc_2007_test")
    assert (len(voc.thing_classes), voc.thing_classes[0]) == (20, "aeroplane")
    cityscapes = metadata("cityscapes_fine_instance_seg_val")
    assert cityscapes.thing_classes[-1] == "bicycle"
    assert cityscapes.category_ids == [24, 25, 26, 27, 28, 31, 32, 33]
    assert cityscapes.thing_colors[0] == (220, 20, 60)
    assert len(cityscapes.stuff_classes) == 19
    assert cityscapes.stuff_category_ids[11:] == cityscapes.category_ids
    assert cityscapes == metadata("cityscapes_fine_sem_seg_val")


@pytest.mark.parametrize(
    "name", ["shapes_val", "", "coco_2017_val2", "my_coco_2017_val", "voc_2012_test"]
)
def test_unknown_data_set_is_no_error(name):
    assert metadata(name) is None


def test_coco_file():
    shapes = metadata_from_coco(DEMO / "annotations.json")
    assert shapes.thing_classes == ["person", "circle", "square", "triangle"]
    assert shapes.category_ids == [1, 2, 3, 4]
    person = metadata("keypoints_coco_2017_val")
    assert shapes.keypoint_names == person.keypoint_names
    assert shapes.keypoint_flip_map == person.keypoint_flip_map
    # COCO's own skeleton: 19 lines, of which the first is ankle to knee, numbered from 1.
    assert len(shapes.keypoint_connections) == 19
    assert shapes.keypoint_connections[0] == (15, 13)


def test_coco_file_without_keypoints_sorts_by_id(tmp_path):
    path = tmp_path / "annotations.json"
    categories = [{"id": 7, "name": "b"}, {"id": 3, "name": "a", "keypoints": []}]
    path.write_text(json.dumps({"categories": categories}))
    read = metadata_from_coco(path)
    assert (read.thing_classes, read.category_ids) == (["a", "b"], [3, 7])
    assert (read.keypoint_names, read.keypoint_connections) == (None, [])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"categories": "\xe9"}', "not JSON in UTF-8"),
        ("[" * 100_000, "not JSON"),
        ([], "not in COCO format"),
        ({"categories": {}}, "'categories' must be a list"),
        ({"categories": [3]}, "categories[0] is not an object"),
        ({"categories": [{"id": 1, "name": "a"}, {"name": "b"}]}, "categories[1].id is missing"),
        ({"categories": [{"id": "x", "name": "a"}]}, "categories[0].id is 'x'"),
        ({"categories": [{"id": 1, "name": None}]}, "categories[0].name is null"),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, "categories has id 1 twice"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": "1", "name": "b"}]}, "id 1 twice"),
        ({"categories": [{"id": 1, "name": "a", "keypoints": "xy"}]}, "'keypoints' is not a list"),
        (
            {"categories": [{"id": 1, "name": "a", "keypoints": ["x"], "skeleton": [[0, 1]]}]},
            "'skeleton' is not a list of pairs",
        ),
        (
            {
                "categories": [
                    {"id": 1, "name": "a", "keypoints": ["x"]},
                    {"id": 2, "name": "b", "keypoints": ["y"]},
                ]
            },
            "a and b have different 'keypoints'",
        ),
    ],
)
def test_errors_name_the_file_and_what_is_wrong(tmp_path, content, expected):
    path = tmp_path / "annotations.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as caught:
        metadata_from_coco(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        metadata_from_coco(tmp_path / "none.json")


def test_numbered():
    assert numbered(2, 1).thing_classes == ["class 0", "class 1"]
    assert numbered(2, 1).keypoint_names == ["keypoint 0"]
    assert numbered(2).keypoint_names is None
