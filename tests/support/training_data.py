"""Configurations and small data sets for the tests of training data."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from tests.support.paths import DEMO
from tfdetect.config import get_cfg
from tfdetect.data import registry

KEYPOINTS = ["nose", "left_hand", "right_hand"]


def demo_cfg(**options):
    """Joint training on the demo's 60 images of shapes; options are `INPUT__FORMAT="RGB"`."""
    registry.register_coco_dataset("demo_shapes", DEMO / "annotations.json", DEMO / "images")
    return cfg_of("demo_shapes", **{"MODEL__ROI_HEADS__NUM_CLASSES": 4, **options})


def cfg_of(name, **options):
    cfg = get_cfg()
    values = {
        "DATASETS__TRAIN": (name,),
        "MODEL__MASK_ON": True,
        "MODEL__KEYPOINT_ON": True,
        "INPUT__MIN_SIZE_TRAIN": (96, 128),
        "INPUT__MAX_SIZE_TRAIN": 200,
        "SOLVER__IMS_PER_BATCH": 4,
        "DATALOADER__NUM_WORKERS": 0,
        **options,
    }
    cfg.merge_from_list(
        [x for key, value in values.items() for x in (key.replace("__", "."), value)]
    )
    cfg.freeze()
    return cfg


def write_dataset(folder: Path, annotations, sizes=((40, 60),), category=None) -> Path:
    """Write images of these (height, width) and annotations of image 1, 2, ...; returns the file.

    An annotation has id, image_id, category_id and bbox unless it says otherwise.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, (height, width) in enumerate(sizes, start=1):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        cv2.imwrite(str(images / f"{number}.png"), pixels)
        entries.append(
            {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
        )
    default = {"image_id": 1, "category_id": 7, "bbox": [10, 5, 20, 30]}
    content = {
        "images": entries,
        "categories": [category or {"id": 7, "name": "person", "keypoints": KEYPOINTS}],
        "annotations": [default | {"id": i + 1} | a for i, a in enumerate(annotations)],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def register(name, path):
    """Register what `write_dataset` wrote under a name that no other test uses."""
    registry.register_coco_dataset(name, path, path.parent / "images")


SQUARE = [[10, 5, 30, 5, 30, 35, 10, 35]]
