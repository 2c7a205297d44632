"""The classes of pixels in training data: every form of data set, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.paths import DATA, DEMO
from tests.support.toy_segmentation import STUFF, write_cityscapes, write_toy
from tests.support.training_data import cfg_of
from tfdetect.data.registry import (
    dataset_files,
    dataset_metadata,
    register_dataset,
    register_panoptic_dataset,
    register_sem_seg_dataset,
    register_separated_dataset,
)
from tfdetect.data.training.input import input_errors, training_dataset
from tfdetect.data.training.records import training_records
from tfdetect.errors import InputError

SEMANTIC = {
    "MODEL__META_ARCHITECTURE": "SemanticSegmentor",
    "MODEL__MASK_ON": False,
    "MODEL__KEYPOINT_ON": False,
    "MODEL__SEM_SEG_HEAD__NUM_CLASSES": 3,
    "INPUT__RANDOM_FLIP": "none",
    "INPUT__MIN_SIZE_TRAIN": (0,),
    "DATALOADER__ASPECT_RATIO_GROUPING": False,
}
PANOPTIC = SEMANTIC | {
    "MODEL__META_ARCHITECTURE": "PanopticFPN",
    "MODEL__MASK_ON": True,
    "MODEL__ROI_HEADS__NUM_CLASSES": 2,
}
CITYSCAPES = SEMANTIC | {"MODEL__SEM_SEG_HEAD__NUM_CLASSES": 19, "SOLVER__IMS_PER_BATCH": 2}


@pytest.fixture
def toy(tmp_path):
    return write_toy(tmp_path / "toy")


@pytest.fixture
def name(request):
    """Of a data set: another one in every test."""
    return f"sem_seg_{request.node.name}"


def batch_of(cfg):
    """The first batch: of each image by its file's stem its part, without padding."""
    records = training_records(cfg)
    with input_errors():
        batch = {k: v.numpy() for k, v in next(iter(training_dataset(cfg, seed=3))).items()}
    found = {}
    for index, record in enumerate(batch["record"]):
        stem = Path(records[record].file_name).stem
        found[stem] = {key: value[index] for key, value in batch.items()}
    return found


def assert_labels(found, toy):
    """The masks as they are, and beyond them what is ignored."""
    assert found.keys() == toy.labels.keys()
    for stem, labels in toy.labels.items():
        example, (height, width) = found[stem], labels.shape
        assert example["gt_sem_seg"].dtype == np.uint8
        np.testing.assert_array_equal(example["gt_sem_seg"][:height, :width], labels)
        beyond = example["gt_sem_seg"].copy()
        beyond[:height, :width] = 255
        assert (beyond == 255).all()


def test_masks(toy, name):
    register_dataset(name, toy.masks, toy.images)
    assert dataset_metadata(dataset_files(name)).stuff_classes == STUFF
    found = batch_of(cfg_of(name, **SEMANTIC))
    assert_labels(found, toy)
    assert not any(example["gt_valid"].any() for example in found.values())


@pytest.mark.parametrize("masks", [True, False])
def test_separated(toy, name, masks):
    """Stuff from masks, or from the panoptic PNGs: the same."""
    folder = toy.masks if masks else None
    register_separated_dataset(name, toy.instances, toy.panoptic, folder, toy.images)
    found = batch_of(cfg_of(name, **PANOPTIC))
    assert_labels(found, toy)
    for example in found.values():
        assert example["gt_classes"][example["gt_valid"]].tolist() == [0, 1]


def test_panoptic(toy, name):
    """Objects and stuff of one PNG; its rectangles are those of the COCO file."""
    register_dataset(name, toy.panoptic, toy.images)
    with pytest.raises(InputError, match=r"INPUT\.MASK_FORMAT: .* set it to bitmask"):
        training_records(cfg_of(name, **PANOPTIC))
    found = batch_of(cfg_of(name, **PANOPTIC, INPUT__MASK_FORMAT="bitmask"))
    assert_labels(found, toy)
    register_separated_dataset(f"{name}_2", toy.instances, toy.panoptic, None, toy.images)
    expected = batch_of(cfg_of(f"{name}_2", **PANOPTIC, INPUT__MASK_FORMAT="bitmask"))
    for stem, example in found.items():
        # The second thing may hide a part of the first, but not change its class.
        assert example["gt_classes"].tolist() == [0, 1]
        np.testing.assert_array_equal(example["gt_boxes"][1], expected[stem]["gt_boxes"][1])
        np.testing.assert_array_equal(example["gt_bitmasks"][1], expected[stem]["gt_bitmasks"][1])
        assert not (example["gt_bitmasks"] & ~expected[stem]["gt_bitmasks"]).any()


def test_another_ignored_value(toy, name):
    """The panoptic PNGs' unlabelled pixels get it, and so does padding; 255 in a mask is wrong."""
    register_panoptic_dataset(name, toy.panoptic, toy.images)
    options = PANOPTIC | {"MODEL__SEM_SEG_HEAD__IGNORE_VALUE": -1, "INPUT__MASK_FORMAT": "bitmask"}
    for stem, example in batch_of(cfg_of(name, **options)).items():
        labels = toy.labels[stem]
        assert example["gt_sem_seg"].dtype == np.int32
        height, width = labels.shape
        expected = np.where(labels == 255, -1, labels.astype(int))
        np.testing.assert_array_equal(example["gt_sem_seg"][:height, :width], expected)
        assert (example["gt_sem_seg"][height:] == -1).all()
    register_sem_seg_dataset(f"{name}_2", toy.masks, toy.images)
    wrong = cfg_of(f"{name}_2", **SEMANTIC | {"MODEL__SEM_SEG_HEAD__IGNORE_VALUE": 7})
    with pytest.raises(InputError, match=r"001\.png: has the value 255, but MODEL\.SEM_SEG_HEAD"):
        training_records(wrong)


def test_resized_as_detectron2(tmp_path, name):
    """The nearest pixel, as in the record."""
    for folder in ("masks", "images"):
        (tmp_path / folder).mkdir()
    for stem in ("000002", "000003"):
        mask = DATA / "dense_training" / f"semantic_{stem}.png"
        (tmp_path / "masks" / f"{stem}.png").write_bytes(mask.read_bytes())
        image = DEMO / "images" / f"{stem}.jpg"
        (tmp_path / "images" / image.name).write_bytes(image.read_bytes())
    register_sem_seg_dataset(name, tmp_path / "masks", tmp_path / "images")
    options = SEMANTIC | {"MODEL__SEM_SEG_HEAD__NUM_CLASSES": 5, "INPUT__MIN_SIZE_TRAIN": (192,)}
    options |= {"INPUT__MAX_SIZE_TRAIN": 320, "SOLVER__IMS_PER_BATCH": 2}
    for stem, example in batch_of(cfg_of(name, **options)).items():
        height, width = example["image_size"]
        path = DATA / "dense_training" / f"semantic_{stem}_resized.png"
        found = example["gt_sem_seg"][:height, :width]
        np.testing.assert_array_equal(found, np.asarray(Image.open(path)))


def test_image_and_labels_go_together(tmp_path, name):
    """Flipped and cropped alike: the image shows its labels."""
    for folder in ("masks", "images"):
        (tmp_path / folder).mkdir()
    labels = np.random.default_rng(0).integers(0, 3, (8, 10)).repeat(8, 0).repeat(8, 1)
    labels = labels.astype(np.uint8)
    for index in range(8):
        Image.fromarray(labels).save(tmp_path / "masks" / f"{index}.png")
        grey = np.repeat(labels[..., None] * 100, 3, 2)
        Image.fromarray(grey).save(tmp_path / "images" / f"{index}.png")
    register_sem_seg_dataset(name, tmp_path / "masks", tmp_path / "images")
    options = SEMANTIC | {"INPUT__RANDOM_FLIP": "horizontal", "SOLVER__IMS_PER_BATCH": 8}
    options |= {"INPUT__CROP__ENABLED": True, "INPUT__CROP__SIZE": [0.5, 0.5]}
    sizes = set()
    for example in batch_of(cfg_of(name, **options)).values():
        height, width = example["image_size"]
        sizes.add((int(height), int(width)))
        found = example["gt_sem_seg"][:height, :width]
        np.testing.assert_array_equal(found * 100, example["image"][:height, :width, 0])
    assert len(sizes) > 4


@pytest.mark.parametrize("made", [True, False])
def test_cityscapes_classes(tmp_path, monkeypatch, made):
    """Of the PNGs of train ids, or of label ids where those were not made."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(write_cityscapes(tmp_path)))
    if made:
        for path in tmp_path.glob("**/*_labelIds.png"):
            ids = np.asarray(Image.open(path))
            train_ids = np.select([ids == 7, ids == 23, ids == 24, ids == 26], [0, 10, 11, 13], 255)
            target = str(path).replace("labelIds", "labelTrainIds")
            Image.fromarray(train_ids.astype(np.uint8)).save(target)
            path.unlink()
    found = batch_of(cfg_of("cityscapes_fine_sem_seg_train", **CITYSCAPES))
    labels = found["aachen_000000_000019_leftImg8bit"]["gt_sem_seg"][:40, :60]
    assert labels[15, 10] == 13
    assert labels[15, 40] == 11
    assert (labels[0] == 10).all()
    assert (labels[30, 51:] == 0).all()
    assert (labels[36:] == 255).all()


def test_cityscapes_objects(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(write_cityscapes(tmp_path)))
    options = SEMANTIC | {
        "MODEL__META_ARCHITECTURE": "GeneralizedRCNN",
        "MODEL__MASK_ON": True,
        "MODEL__ROI_HEADS__NUM_CLASSES": 8,
        "SOLVER__IMS_PER_BATCH": 2,
    }
    found = batch_of(cfg_of("cityscapes_fine_instance_seg_train", **options))
    for example in found.values():
        boxes = example["gt_boxes"][example["gt_valid"]]
        assert sorted(example["gt_classes"].tolist()) == [0, 2]
        np.testing.assert_array_equal(boxes[np.argsort(boxes[:, 0])][0], [5, 10, 30, 30])


def test_cityscapes_panoptic(tmp_path, monkeypatch):
    """Things and stuff of the JSON; the images' names, which it has not, are found."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(write_cityscapes(tmp_path)))
    known = dataset_metadata(dataset_files("cityscapes_fine_panoptic_train"))
    assert known.thing_classes[::2] == ["person", "car", "bus", "motorcycle"]
    assert known.category_ids == [24, 25, 26, 27, 28, 31, 32, 33]
    assert known.stuff_classes[:2] == ["things", "road"]
    assert len(known.stuff_classes) == 12
    options = PANOPTIC | {
        "MODEL__ROI_HEADS__NUM_CLASSES": 8,
        "MODEL__SEM_SEG_HEAD__NUM_CLASSES": 12,
        "INPUT__MASK_FORMAT": "bitmask",
        "SOLVER__IMS_PER_BATCH": 2,
    }
    found = batch_of(cfg_of("cityscapes_fine_panoptic_train", **options))
    for stem, (height, width) in (("000000", (40, 60)), ("000001", (48, 64))):
        example = found[f"aachen_{stem}_000019_leftImg8bit"]
        order = np.argsort(example["gt_classes"])
        assert example["gt_classes"][order].tolist() == [0, 2]
        boxes = [[35, 8, 50, 34], [5, 10, 30, 30]]
        np.testing.assert_array_equal(example["gt_boxes"][order], boxes)
        expected = np.full((height, width), 255)
        expected[: height // 2] = known.stuff_classes.index("sky")
        expected[height // 2 : height - 4] = known.stuff_classes.index("road")
        for x1, y1, x2, y2 in boxes:
            expected[y1:y2, x1:x2] = 0
        np.testing.assert_array_equal(example["gt_sem_seg"][:height, :width], expected)


def remove_a_mask(toy):
    (toy.masks / "002.png").unlink()


def shrink_a_mask(toy):
    Image.fromarray(toy.labels["003"][1:]).save(toy.masks / "003.png")


def add_a_class(toy):
    labels = toy.labels["004"].copy()
    labels[:2] = 9
    Image.fromarray(labels).save(toy.masks / "004.png")


def save_in_colours(toy):
    colours = np.zeros((*toy.labels["001"].shape, 3), np.uint8)
    colours[..., 1] = 40
    Image.fromarray(colours).save(toy.masks / "001.png")


def damage_a_mask(toy):
    content = (toy.masks / "001.png").read_bytes()
    (toy.masks / "001.png").write_bytes(content[: len(content) // 2])


def remove_an_image(toy):
    (toy.images / "004.jpg").unlink()


WRONG = {
    remove_a_mask: r"masks: 1 of 4 images have no PNG there, such as .*002\.jpg",
    shrink_a_mask: r"003\.png: has 56 x 55 pixels, its image 56 x 56",
    add_a_class: r"004\.png: has the value 9, but MODEL\.SEM_SEG_HEAD\.NUM_CLASSES is 3",
    save_in_colours: r"001\.png: has colours",
    damage_a_mask: r"001\.png: ",
    remove_an_image: r"images: 1 of 4 masks have no image there, such as .*004\.png",
}


@pytest.mark.parametrize("damage", WRONG)
def test_what_is_wrong_is_said_first(toy, name, damage):
    damage(toy)
    register_sem_seg_dataset(name, toy.masks, toy.images)
    with pytest.raises(InputError, match=WRONG[damage]) as caught:
        training_records(cfg_of(name, **SEMANTIC))
    assert "\n" not in str(caught.value)
    assert "DATALOADER.ON_ERROR skip" in str(caught.value)
    # What is left can be trained on.
    options = SEMANTIC | {"DATALOADER__ON_ERROR": "skip", "SOLVER__IMS_PER_BATCH": 2}
    assert len(batch_of(cfg_of(name, **options))) >= 1


def test_separated_without_a_mask(toy, name):
    remove_a_mask(toy)
    register_separated_dataset(name, toy.instances, "", toy.masks, toy.images)
    with pytest.raises(InputError, match=r"1 of 4 masks is missing, such as .*002\.png; add them"):
        training_records(cfg_of(name, **PANOPTIC))


def test_data_and_model_that_do_not_go_together(toy, name):
    register_sem_seg_dataset(name, toy.masks, toy.images)
    with pytest.raises(InputError, match="has masks of classes, but no objects"):
        training_records(cfg_of(name, **PANOPTIC))
    few = SEMANTIC | {"MODEL__SEM_SEG_HEAD__NUM_CLASSES": 2}
    with pytest.raises(InputError, match=r"MODEL\.SEM_SEG_HEAD\.NUM_CLASSES: is 2, but .* has 3"):
        training_records(cfg_of(name, **few))
    register_dataset(f"{name}_2", toy.instances, toy.images)
    with pytest.raises(InputError, match="does not say the classes of pixels"):
        training_records(cfg_of(f"{name}_2", **SEMANTIC))


def test_labels_of_a_palette_are_its_indices(toy, name):
    """And not the brightness of their colours, which Detectron2's training takes."""
    for stem, labels in toy.labels.items():
        image = Image.fromarray(labels, "P")
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
        image.save(toy.masks / f"{stem}.png")
    register_sem_seg_dataset(name, toy.masks, toy.images)
    assert_labels(batch_of(cfg_of(name, **SEMANTIC)), toy)


def test_crops_with_several_classes(tmp_path, name):
    """None has more than SINGLE_CATEGORY_MAX_AREA of what is labelled, where that is possible."""
    for folder in ("masks", "images"):
        (tmp_path / folder).mkdir()
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:] = np.arange(30) // 5 % 2
    labels[:6] = 255
    for index in range(8):
        Image.fromarray(labels).save(tmp_path / "masks" / f"{index}.png")
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "images" / f"{index}.png")
    register_sem_seg_dataset(name, tmp_path / "masks", tmp_path / "images")
    options = SEMANTIC | {"SOLVER__IMS_PER_BATCH": 8, "INPUT__CROP__ENABLED": True}
    options |= {"INPUT__CROP__TYPE": "absolute", "INPUT__CROP__SIZE": [20, 20]}

    def shares(**more):
        found = batch_of(cfg_of(name, **options, **more)).values()
        counts = [np.bincount(one["gt_sem_seg"].ravel(), minlength=2)[:2] for one in found]
        return [count.max() / count.sum() for count in counts]

    assert max(shares()) == 1
    assert max(shares(INPUT__CROP__SINGLE_CATEGORY_MAX_AREA=0.8)) < 0.8


def test_large_scale_jitter_pads_with_the_ignored_value(toy, name):
    register_sem_seg_dataset(name, toy.masks, toy.images)
    jitter = {"ENABLED": True, "SCALE": [0.5, 0.5], "SIZE": 64}
    options = {f"INPUT__LARGE_SCALE_JITTER__{key}": value for key, value in jitter.items()}
    for ignored in (255, -1):
        register_panoptic_dataset(f"{name}_{ignored}", toy.panoptic, toy.images)
        options["MODEL__SEM_SEG_HEAD__IGNORE_VALUE"] = ignored
        cfg = cfg_of(f"{name}_{ignored}", **SEMANTIC | options)
        for example in batch_of(cfg).values():
            assert example["gt_sem_seg"].shape == (64, 64)
            assert (example["gt_sem_seg"][33:, 33:] == ignored).all()
            assert (example["gt_sem_seg"][:2, :20] == 2).all()
