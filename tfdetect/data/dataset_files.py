"""What a data set consists of: the files of its annotations and images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfdetect.data.other_formats.reading import OTHER_FORMS, annotation_files
from tfdetect.errors import InputError

Form = Literal[
    "COCO",
    "LVIS",
    "DOTA",
    "YOLO",
    "VOC",
    "LABELME",
    "SEM_SEG",
    "PANOPTIC",
    "SEPARATED",
    "CITYSCAPES_INSTANCE",
    "CITYSCAPES_SEM_SEG",
    "CITYSCAPES_PANOPTIC",
]
"""The format of a data set's annotations.

DOTA: a folder of text files, one for each image, with rotated boxes. YOLO, VOC, LABELME: folders of
text, XML and JSON files, one for each image (`tfdetect.data.other_formats`). SEM_SEG: a folder of
masks, a PNG per image (Detectron2's `load_sem_seg`). PANOPTIC: COCO panoptic, a JSON file and a PNG
of segments per image. SEPARATED: COCO, with masks for the stuff
(`register_coco_panoptic_separated`). CITYSCAPES_*: gtFine's objects, classes of pixels, or its
panoptic JSON.
"""


@dataclass(frozen=True)
class DatasetFiles:
    """The files of one data set.

    Attributes:
        name: as in DATASETS.TRAIN and DATASETS.TEST.
        form: the format of the annotations.
        annotations: the JSON file; the folder of masks or of files of each image; gtFine/train and
            so on.
        images_dir: the folder that the annotations' file names are relative to.
        panoptic: the COCO panoptic JSON that goes with a SEPARATED one; None where there are masks
            only.
        masks: the folder of masks that goes with a SEPARATED one; None where `panoptic` says the
            classes of the pixels.
        stuff_classes: the names of the classes of SEM_SEG; None where they are not known.
        some_masks: whether a folder of masks is of some of the images only.
    """

    name: str
    form: Form
    annotations: Path
    images_dir: Path
    panoptic: Path | None = None
    masks: Path | None = None
    stuff_classes: tuple[str, ...] | None = None
    some_masks: bool = False

    @property
    def has_objects(self) -> bool:
        """Whether there are annotations of objects."""
        return self.form not in ("SEM_SEG", "CITYSCAPES_SEM_SEG")

    @property
    def has_sem_seg(self) -> bool:
        """Whether pixels have a class."""
        return self.form not in ("COCO", "LVIS", "DOTA", *OTHER_FORMS, "CITYSCAPES_INSTANCE")

    def version(self) -> tuple[int, ...]:
        """A version of the annotations: modification times and sizes.

        Raises:
            InputError: a file is gone.
        """
        found: list[int] = []
        paths = [self.annotations, self.panoptic, self.masks]
        if self.form == "DOTA":
            # What is written into a file does not change its folder.
            paths += sorted(self.annotations.glob("*.txt"))
        if self.form in OTHER_FORMS:
            paths += annotation_files(self.form, self.annotations, self.images_dir)
        for path in paths:
            if path is None:
                continue
            try:
                status = path.stat()
            except OSError as error:
                raise InputError(
                    f"{path}: cannot be read ({error.strerror}), check the name"
                ) from error
            found += [status.st_mtime_ns, status.st_size]
        return tuple(found)
