"""Cityscapes' classes of pixels, and its panoptic annotations."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from tfdetect.data.catalog import metadata
from tfdetect.data.cityscapes import IMAGE_SUFFIX, image_files
from tfdetect.data.images import read_size
from tfdetect.data.panoptic import PanopticDataset, PanopticImage
from tfdetect.data.sem_seg import UNLABELLED, SemSegFile, SemSegImage

_IGNORED_TRAIN_ID = 255


def read_cityscapes_sem_seg(
    image_folder: str | os.PathLike[str], truth_folder: str | os.PathLike[str]
) -> tuple[SemSegImage, ...]:
    """The images of a split, with the 19 classes that are evaluated.

    Those are in `*_gtFine_labelTrainIds.png`, which a script of cityscapesscripts makes; where
    that has not run, they are made of `*_gtFine_labelIds.png`, which the archive has.

    Args:
        image_folder: such as `leftImg8bit/train`, with a folder per city.
        truth_folder: such as `gtFine/train`.

    Raises:
        InputError: the images cannot be listed, or one cannot be read.

    Detectron2: `load_cityscapes_semantic`.
    """
    train_ids = (*range(_IGNORED_TRAIN_ID), UNLABELLED)
    label_ids = _classes_of_label_ids()
    images = []
    for image in image_files(Path(image_folder)):
        city, name = image.parent.name, image.name.removesuffix(IMAGE_SUFFIX)
        folder = Path(truth_folder) / city
        file = SemSegFile(folder / f"{name}gtFine_labelTrainIds.png", train_ids)
        originals = folder / f"{name}gtFine_labelIds.png"
        if not file.path.is_file() and originals.is_file():
            file = SemSegFile(originals, label_ids)
        height, width = read_size(image)
        index = name.rstrip("_")
        images.append(SemSegImage(index, f"{city}/{image.name}", height, width, file))
    return tuple(images)


def _classes_of_label_ids() -> tuple[int, ...]:
    """The class of each label id."""
    known = metadata("cityscapes_fine_sem_seg_train")
    assert known is not None
    ids = known.stuff_category_ids
    assert ids is not None
    return tuple(ids.index(label) if label in ids else UNLABELLED for label in range(max(ids) + 1))


def with_cities(dataset: PanopticDataset, image_folder: Path) -> PanopticDataset:
    """Panoptic annotations of cityscapesscripts, with the images' files below a split's folder.

    The JSON has neither the folder of the city nor the right name. An image that is not there gets
    the file that it should have.
    """
    names = {path.name: f"{path.parent.name}/{path.name}" for path in image_files(image_folder)}

    def named(image: PanopticImage) -> PanopticImage:
        name = f"{image.id}_{IMAGE_SUFFIX}"
        city = str(image.id).partition("_")[0]
        return dataclasses.replace(image, file_name=names.get(name, f"{city}/{name}"))

    return dataclasses.replace(dataset, images=tuple(map(named, dataset.images)))
