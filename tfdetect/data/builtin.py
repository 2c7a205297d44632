"""Where Detectron2 looks for the data sets of its zoo, below one folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tfdetect.data.dataset_files import DatasetFiles, Form

_COCO_2014 = "train|val|minival|valminusminival"
_LVIS = {
    "lvis_v1_train": "lvis_v1_train",
    "lvis_v1_val": "lvis_v1_val",
    "lvis_v1_test_dev": "lvis_v1_image_info_test_dev",
    "lvis_v1_test_challenge": "lvis_v1_image_info_test_challenge",
    "lvis_v0.5_train": "lvis_v0.5_train",
    "lvis_v0.5_val": "lvis_v0.5_val",
    "lvis_v0.5_val_rand_100": "lvis_v0.5_val_rand_100",
    "lvis_v0.5_test": "lvis_v0.5_image_info_test",
    "lvis_v0.5_train_cocofied": "lvis_v0.5_train_cocofied",
    "lvis_v0.5_val_cocofied": "lvis_v0.5_val_cocofied",
}


def builtin_files(name: str, coco: Path | None = None) -> DatasetFiles | None:
    """Where Detectron2's `data.datasets.builtin` has a data set.

    Args:
        name: of the data set.
        coco: the folder that has COCO's `annotations`, `val2017` and so on; None for `coco` below
            the folder of all data sets.
    """
    root = Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser()
    coco = coco or root / "coco"
    if name in _LVIS:
        return DatasetFiles(name, "LVIS", root / "lvis" / f"{_LVIS[name]}.json", coco)
    if match := re.fullmatch(r"voc_(2007|2012)_(train|val|trainval|(?<=07_)test)", name):
        voc = root / f"VOC{match[1]}"
        listed = voc / "ImageSets" / "Main" / f"{match[2]}.txt"
        return DatasetFiles(name, "VOC", listed, voc / "JPEGImages")
    segmentation = _segmentation(name, root, coco)
    if segmentation is not None:
        return segmentation
    keypoints = "person_keypoints" if name.startswith("keypoints_") else "instances"
    plain = name.removeprefix("keypoints_")
    if match := re.fullmatch(rf"coco_2014_({_COCO_2014})", plain):
        split, images = f"{match[1]}2014", "train2014" if match[1] == "train" else "val2014"
    elif match := re.fullmatch(r"coco_2017_(train|val)(_100)?", plain):
        split, images = f"{match[1]}2017{match[2] or ''}", f"{match[1]}2017"
        if split == "train2017_100":
            return None
    elif match := re.fullmatch(r"coco_2017_(test|test-dev)", name):
        split, images, keypoints = f"{match[1]}2017", "test2017", "image_info"
    else:
        return None
    return DatasetFiles(
        name, "COCO", coco / "annotations" / f"{keypoints}_{split}.json", coco / images
    )


def _segmentation(name: str, root: Path, coco: Path) -> DatasetFiles | None:
    """The sets of semantic and panoptic segmentation, and Cityscapes."""
    if match := re.fullmatch(r"coco_2017_(train|val|val_100)_panoptic(_\w+)?", name):
        split = match[1].replace("_100", "") + "2017" + ("_100" if "_100" in match[1] else "")
        images = coco / split.removesuffix("_100")
        instances = coco / "annotations" / f"instances_{split}.json"
        panoptic = coco / "annotations" / f"panoptic_{split}.json"
        folder = coco / f"panoptic_stuff_{split}"
        # What prepare_panoptic_fpn.py of Detectron2 makes of the panoptic PNGs, if it has run.
        masks = folder if folder.is_dir() else None
        if match[2] == "_separated":
            return DatasetFiles(name, "SEPARATED", instances, images, panoptic, masks)
        if match[2] == "_stuffonly" and masks is not None:
            return DatasetFiles(name, "SEM_SEG", masks, images, some_masks=True)
        if match[2] in (None, "_stuffonly"):
            return DatasetFiles(name, "PANOPTIC", panoptic, images)
    if match := re.fullmatch(r"cityscapes_fine_(instance_seg|sem_seg)_(train|val|test)", name):
        cityscapes = root / "cityscapes"
        form: Form = "CITYSCAPES_SEM_SEG" if match[1] == "sem_seg" else "CITYSCAPES_INSTANCE"
        truth, images = cityscapes / "gtFine" / match[2], cityscapes / "leftImg8bit" / match[2]
        return DatasetFiles(name, form, truth, images)
    if match := re.fullmatch(r"cityscapes_fine_panoptic_(train|val)", name):
        cityscapes = root / "cityscapes"
        truth = cityscapes / "gtFine" / f"cityscapes_panoptic_{match[1]}.json"
        images = cityscapes / "leftImg8bit" / match[1]
        return DatasetFiles(name, "CITYSCAPES_PANOPTIC", truth, images)
    if match := re.fullmatch(r"ade20k_sem_seg_(train|val)", name):
        ade20k = root / "ADEChallengeData2016"
        split = {"train": "training", "val": "validation"}[match[1]]
        masks = ade20k / "annotations_detectron2" / split
        return DatasetFiles(name, "SEM_SEG", masks, ade20k / "images" / split)
    return None
