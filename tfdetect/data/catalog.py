"""Metadata of data sets: names and colours of classes, and keypoints.

The data sets of Detectron2's model zoo are looked up by the names used in its configs; others are
described by their COCO annotation file, or just numbered.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tfdetect.data.json_format import (
    as_integer,
    as_text,
    check_unique,
    entries,
    get,
    read_object,
)
from tfdetect.errors import InputError


@dataclass(frozen=True)
class DatasetMetadata:
    """Names for a model's outputs.

    Attributes:
        thing_classes: name of class 0..K-1.
        keypoint_names: name of keypoint 0..N-1, or None without keypoints.
        keypoint_flip_map: pairs of keypoint names that are swapped in a flipped image.
        keypoint_connections: the lines of the skeleton, as pairs of indices into
            `keypoint_names`.
        category_ids: the data set's own id of class 0..K-1 (COCO's run from 1 to 90 with gaps),
            or None where it has no ids.
        keypoint_classes: the classes that have keypoints; None where that is not known. (A
            keypoint head predicts some for every detection.)
        thing_colors: (red, green, blue) in 0..255 of each thing class, None where it has none.
        stuff_classes: name of class 0..S-1 of the semantic segmentation, None where a data set
            has none. COCO's begin with "things": all things are one class of its semantic head.
        stuff_colors: (red, green, blue) in 0..255 of each stuff class.
        stuff_category_ids: the data set's own id of each stuff class (0 of COCO's "things").
    """

    thing_classes: list[str]
    keypoint_names: list[str] | None
    keypoint_flip_map: list[tuple[str, str]]
    keypoint_connections: list[tuple[int, int]]
    category_ids: list[int] | None
    keypoint_classes: list[int] | None = None
    thing_colors: list[tuple[int, int, int]] | None = None
    stuff_classes: list[str] | None = None
    stuff_colors: list[tuple[int, int, int]] | None = None
    stuff_category_ids: list[int] | None = None

    def for_model(self) -> dict[str, Any]:
        """The names in the `metadata.json` of a model directory."""
        return {
            "class_names": self.thing_classes,
            "keypoint_names": self.keypoint_names,
            "keypoint_flip_map": self.keypoint_flip_map,
            "keypoint_connections": self.keypoint_connections,
            "keypoint_classes": self.keypoint_classes,
            "category_ids": self.category_ids,
            "stuff_class_names": self.stuff_classes,
            "stuff_colors": self.stuff_colors,
            "stuff_category_ids": self.stuff_category_ids,
        }


_PERSON_KEYPOINTS = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle"
)
# The lines that Detectron2 draws; COCO's own skeleton has others between trunk and head.
_PERSON_CONNECTIONS = [
    *[(3, 1), (4, 2), (1, 0), (0, 2)],  # head
    *[(5, 6), (5, 7), (6, 8), (7, 9), (8, 10)],  # shoulders and arms
    *[(11, 12), (11, 13), (12, 14), (13, 15), (14, 16)],  # hips and legs
]
# The names of Detectron2's `data.datasets.builtin`, and the classes they go with.
_KNOWN_NAMES = {
    r"coco_2014_(train|val|minival|valminusminival)": "coco",
    r"coco_2017_(train|val|val_100|test|test-dev)": "coco",
    r"coco_2017_(train|val|val_100)_panoptic(_separated|_stuffonly)?": "coco_panoptic",
    r"keypoints_coco_2014_(train|val|minival|valminusminival)": "person",
    r"keypoints_coco_2017_(train|val|val_100)": "person",
    r"cityscapes_fine_(instance|sem)_seg_(train|val|test)": "cityscapes",
    r"ade20k_sem_seg_(train|val)": "ade20k",
    r"voc_2007_(train|val|trainval|test)": "voc",
    r"voc_2012_(train|val|trainval)": "voc",
    r"lvis_v0\.5_(train|val|val_rand_100|test)": "lvis_v0.5",
    r"lvis_v0\.5_(train|val)_cocofied": "coco",
    r"lvis_v1_(train|val|test_dev|test_challenge)": "lvis_v1",
}


def metadata(dataset_name: str) -> DatasetMetadata | None:
    """Return the metadata of one of the zoo's data sets (`coco_2017_val`); None for any other.

    Classes are in the order of the models' outputs, as `MetadataCatalog` has them in Detectron2;
    an LVIS class is named by its first synonym. Colours are the data set's own; LVIS has
    none and gets those of Pascal VOC's scheme, which works for any number of classes.
    """
    key = next((k for name, k in _KNOWN_NAMES.items() if re.fullmatch(name, dataset_name)), None)
    if key is None:
        return None
    if key == "person":
        names = _PERSON_KEYPOINTS.split()
        return DatasetMetadata(
            thing_classes=["person"],
            keypoint_names=names,
            keypoint_flip_map=_flip_map(names),
            keypoint_connections=list(_PERSON_CONNECTIONS),
            category_ids=[1],
            thing_colors=_rgb(_classes()["coco_colors"][:1]),
        )
    known = _classes()
    if key == "ade20k":
        return sem_seg_metadata(known["ade20k_stuff"])
    things = key.removesuffix("_panoptic")
    classes = list(known[things])
    ids = known.get(f"{things}_ids")
    if key.startswith("lvis"):
        ids = list(range(1, len(classes) + 1))
    colors = known.get(f"{things}_colors")
    result = DatasetMetadata(
        thing_classes=classes,
        keypoint_names=None,
        keypoint_flip_map=[],
        keypoint_connections=[],
        category_ids=None if ids is None else list(ids),
        thing_colors=_label_colors(len(classes)) if colors is None else _rgb(colors),
    )
    if key not in ("coco_panoptic", "cityscapes"):
        return result
    return dataclasses.replace(
        result,
        stuff_classes=list(known[f"{things}_stuff"]),
        stuff_colors=_rgb(known[f"{things}_stuff_colors"]),
        stuff_category_ids=list(known[f"{things}_stuff_ids"]),
    )


def metadata_from_coco(path: str | os.PathLike[str]) -> DatasetMetadata:
    """Read the categories of an annotation file in COCO's format.

    Classes are sorted by their id, as Detectron2's `load_coco_json` sorts them. Keypoints and
    skeleton are those of the categories that have any; keypoints named left_X and right_X are
    swapped in a flipped image.

    Raises:
        InputError: the file cannot be read or is not such a file, or its categories have different
            keypoints, while a model has a single list.
    """
    path = Path(path)
    return metadata_from_categories(path, read_object(path, "COCO", compact=True))


def metadata_from_categories(path: Path, root: Mapping[str, Any]) -> DatasetMetadata:
    """`metadata_from_coco` of a file's content; `path` is for messages."""
    categories = [
        _category(path, entry, where) for where, entry in entries(path, root, "categories", "COCO")
    ]
    check_unique(path, "categories", (category["id"] for category in categories))
    categories.sort(key=lambda category: category["id"])
    with_keypoints = [category for category in categories if category["keypoints"]]
    names: list[str] | None = None
    connections: list[tuple[int, int]] = []
    if with_keypoints:
        first = with_keypoints[0]
        names = first["keypoints"]
        for other in with_keypoints[1:]:
            if other["keypoints"] != names:
                raise InputError(
                    f"{path}: categories {first['name']} and {other['name']} have different "
                    "'keypoints'; a model has one list, so give them the same"
                )
        connections = [(start - 1, end - 1) for start, end in first["skeleton"]]
    keypoint_classes = [i for i, category in enumerate(categories) if category["keypoints"]]
    return DatasetMetadata(
        thing_classes=[category["name"] for category in categories],
        keypoint_names=names,
        keypoint_flip_map=_flip_map(names or []),
        keypoint_connections=connections,
        category_ids=[category["id"] for category in categories],
        keypoint_classes=keypoint_classes or None,
    )


def sem_seg_metadata(class_names: Sequence[str] | None) -> DatasetMetadata:
    """Of a data set with the classes of pixels and no objects; None where names are unknown."""
    return DatasetMetadata(
        thing_classes=[],
        keypoint_names=None,
        keypoint_flip_map=[],
        keypoint_connections=[],
        category_ids=None,
        stuff_classes=None if class_names is None else list(class_names),
    )


def numbered(num_classes: int, num_keypoints: int = 0) -> DatasetMetadata:
    """Return "class 0", "class 1", ... and "keypoint 0", ..., for an unknown data set."""
    return DatasetMetadata(
        thing_classes=[f"class {index}" for index in range(num_classes)],
        keypoint_names=[f"keypoint {index}" for index in range(num_keypoints)] or None,
        keypoint_flip_map=[],
        keypoint_connections=[],
        category_ids=None,
    )


@cache
def _classes() -> dict[str, list]:
    """Load names, ids and colours ("#rrggbb") of the classes by data set."""
    return json.loads(
        resources.files("tfdetect.data").joinpath("dataset_classes.json").read_text("utf-8")
    )


def _rgb(colors: Iterable[str]) -> list[tuple[int, int, int]]:
    return [(int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)) for text in colors]


def _label_colors(count: int) -> list[tuple[int, int, int]]:
    """Colours 1..count of Pascal VOC's label images, where 0 is the background.

    Of a label's bits, each group of three from the lowest up gives red, green and blue their next
    bit from the highest down, so that no two labels look alike (the devkit's VOClabelcolormap).
    """
    labels = np.arange(1, count + 1)
    colors = np.zeros((count, 3), np.int64)
    for position in range(8):
        for channel in range(3):
            bits = (labels >> (3 * position + channel)) & 1
            colors[:, channel] |= bits << (7 - position)
    return [(red, green, blue) for red, green, blue in colors.tolist()]


def _flip_map(names: list[str]) -> list[tuple[str, str]]:
    """Pair left and right keypoints."""
    mirrored = [(name, name.replace("left", "right", 1)) for name in names if "left" in name]
    return [pair for pair in mirrored if pair[1] in names]


def _category(path: Path, entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """id, name, keypoints and skeleton of a category; missing lists are empty."""
    names = entry.get("keypoints") or []
    keypoints = [as_text(name) for name in names] if isinstance(names, list) else [None]
    if None in keypoints:
        raise InputError(f"{path}: {where}: 'keypoints' is not a list of names; correct it")
    lines = entry.get("skeleton") or []
    if not isinstance(lines, list) or not all(isinstance(line, list) for line in lines):
        lines = [[None]]
    valid = range(1, len(names) + 1)
    skeleton = [[as_integer(end) for end in line] for line in lines]
    if not all(len(line) == 2 and all(end in valid for end in line) for line in skeleton):
        raise InputError(
            f"{path}: {where}: 'skeleton' is not a list of pairs of keypoints, numbered from 1;"
            " correct it"
        )
    return {
        "id": get(path, entry, where, "id", int),
        "name": get(path, entry, where, "name", str),
        "keypoints": keypoints,
        "skeleton": skeleton,
    }
