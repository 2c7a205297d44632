"""Where data sets are: the zoo's, by Detectron2's layout of folders, and registered ones."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from tfdetect.data.catalog import DatasetMetadata, metadata, metadata_from_coco
from tfdetect.errors import InputError
from tfdetect.registry import Registry


@dataclass(frozen=True)
class DatasetFiles:
    """The files of one data set.

    Attributes:
        name: as in DATASETS.TRAIN and DATASETS.TEST.
        form: the format of the annotations.
        annotations: the JSON file.
        images_dir: the folder that the annotations' file names are relative to.
    """

    name: str
    form: Literal["COCO", "LVIS"]
    annotations: Path
    images_dir: Path

    def version(self) -> tuple[int, int]:
        """A version of the annotations: modification time and size.

        Raises:
            InputError: the file is gone.
        """
        try:
            found = self.annotations.stat()
        except OSError as error:
            raise InputError(
                f"{self.annotations}: cannot be read ({error.strerror}), check the name"
            ) from error
        return found.st_mtime_ns, found.st_size


DATASETS: Registry[Callable[[], DatasetFiles]] = Registry("data set")
"""Data sets beside the zoo's, for DATASETS.TRAIN and DATASETS.TEST. Called without arguments when
the data set is used: a function may make the files first.
"""

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


def register_coco_dataset(
    name: str, annotations: str | os.PathLike[str], images_dir: str | os.PathLike[str]
) -> None:
    """Register a data set in COCO's format under a name, for DATASETS.TRAIN and DATASETS.TEST.

    Classes, keypoint names, flip pairs and skeleton are those of the file.

    Raises:
        InputError: the name is one of the zoo's, or stands for other files already; a file or
            folder is missing.
    """
    files = DatasetFiles(name, "COCO", Path(annotations), Path(images_dir))
    if _of_the_zoo(name) is not None or metadata(name) is not None:
        raise InputError(
            f"--register {name}: is a data set of Detectron2's model zoo, choose another name"
        )
    registered = name in DATASETS
    if registered and DATASETS.build(f"--register {name}", name) != files:
        raise InputError(f"--register {name}: is registered twice, choose another name for one")
    if not files.annotations.is_file():
        raise InputError(f"--register {name}: {annotations} is not a file, correct the path")
    if not files.images_dir.is_dir():
        raise InputError(f"--register {name}: {images_dir} is not a folder, correct the path")
    if not registered:
        DATASETS.add(name, lambda: files)


def dataset_files(name: str, key: str = "DATASETS.TRAIN") -> DatasetFiles:
    """Find a data set: a registered one, or one of the zoo's COCO and LVIS sets.

    The zoo's are below the folder that the environment variable DETECTRON2_DATASETS names, or
    `./datasets`, laid out as Detectron2's documentation says.

    Args:
        name: of the data set.
        key: the configuration's key that names it, for messages.

    Raises:
        InputError: the name is unknown, or the annotations are missing.
    """
    if name in DATASETS:
        return DATASETS.build(key, name)
    files = _of_the_zoo(name)
    if files is None:
        known = f"; registered are {', '.join(sorted(DATASETS))}" if len(DATASETS) else ""
        raise InputError(
            f"{key}: unknown data set {name!r}, register it with"
            f" --register {name} ANNOTATIONS.json IMAGES_DIR{known}"
        )
    if not files.annotations.is_file():
        raise InputError(
            f"{key}: {name}: {files.annotations} is missing; put the data there or set the"
            " environment variable DETECTRON2_DATASETS to the folder that has it"
        )
    return files


def dataset_metadata(files: DatasetFiles) -> DatasetMetadata:
    """What is known of the data set's classes and keypoints, from the catalog or from its file.

    Raises:
        InputError: its file cannot be read.
    """
    return metadata(files.name) or _metadata_from_file(files.annotations, files.version())


@lru_cache(maxsize=8)
def _metadata_from_file(path: Path, version: tuple[int, int]) -> DatasetMetadata:
    # Parsing a large file takes seconds, and several ask for it.
    return metadata_from_coco(path)


def _of_the_zoo(name: str) -> DatasetFiles | None:
    """Where Detectron2's `data.datasets.builtin` has a data set."""
    root = Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser()
    if name in _LVIS:
        return DatasetFiles(name, "LVIS", root / "lvis" / f"{_LVIS[name]}.json", root / "coco")
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
    coco = root / "coco"
    return DatasetFiles(
        name, "COCO", coco / "annotations" / f"{keypoints}_{split}.json", coco / images
    )
