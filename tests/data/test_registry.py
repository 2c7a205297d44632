"""Data sets by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paths import DEMO
from tfdetect.data import registry
from tfdetect.errors import InputError

ANNOTATIONS = DEMO / "annotations.json"


@pytest.mark.parametrize(
    ("name", "annotations", "images"),
    [
        ("coco_2017_train", "instances_train2017", "train2017"),
        ("coco_2017_val_100", "instances_val2017_100", "val2017"),
        ("coco_2017_test-dev", "image_info_test-dev2017", "test2017"),
        ("coco_2014_valminusminival", "instances_valminusminival2014", "val2014"),
        ("keypoints_coco_2017_train", "person_keypoints_train2017", "train2017"),
        ("keypoints_coco_2014_train", "person_keypoints_train2014", "train2014"),
    ],
)
def test_the_zoo_is_where_detectron2_has_it(monkeypatch, tmp_path, name, annotations, images):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    path = tmp_path / "coco" / "annotations" / f"{annotations}.json"
    with pytest.raises(InputError, match=r"^DATASETS.TEST: .* is missing; .*DETECTRON2_DATASETS"):
        registry.dataset_files(name, "DATASETS.TEST")
    path.parent.mkdir(parents=True)
    path.touch()
    expected = registry.DatasetFiles(name, "COCO", path, tmp_path / "coco" / images)
    assert registry.dataset_files(name) == expected


def test_lvis_and_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)
    path = Path("datasets/lvis/lvis_v0.5_train.json")
    path.parent.mkdir(parents=True)
    path.touch()
    files = registry.dataset_files("lvis_v0.5_train")
    assert files == registry.DatasetFiles("lvis_v0.5_train", "LVIS", path, Path("datasets/coco"))
    assert len(registry.dataset_metadata(files).thing_classes) == 1230


def test_registered():
    for _ in range(2):  # the same again changes nothing
        registry.register_coco_dataset("registered_shapes", ANNOTATIONS, DEMO / "images")
    files = registry.dataset_files("registered_shapes")
    assert files.annotations == ANNOTATIONS
    assert registry.dataset_metadata(files).thing_classes[0] == "person"


@pytest.mark.parametrize(
    ("name", "annotations", "images", "message"),
    [
        ("coco_2017_train", ANNOTATIONS, DEMO / "images", "model zoo"),
        ("coco_2017_val_panoptic_separated", ANNOTATIONS, DEMO / "images", "model zoo"),
        ("unheard_of", DEMO / "none.json", DEMO / "images", "none.json is not a file"),
        ("unheard_of", ANNOTATIONS, DEMO / "none", "none is not a folder"),
        ("registered_once", ANNOTATIONS, DEMO, "twice"),
    ],
)
def test_refused(name, annotations, images, message):
    registry.register_coco_dataset("registered_once", ANNOTATIONS, DEMO / "images")
    with pytest.raises(InputError, match=f"^--register {name}: .*{message}"):
        registry.register_coco_dataset(name, annotations, images)


@pytest.mark.parametrize("name", ["my_shapes", "coco_2017_train_100", "keypoints_coco_2017_test"])
def test_unknown(name):
    with pytest.raises(InputError, match=f"^DATASETS.TRAIN: .*'{name}'.*--register {name} "):
        registry.dataset_files(name)


def test_a_function_may_make_the_files():
    @registry.DATASETS.register("made_shapes")
    def make():
        return registry.DatasetFiles("made_shapes", "COCO", ANNOTATIONS, DEMO / "images")

    assert registry.dataset_files("made_shapes") == make()
