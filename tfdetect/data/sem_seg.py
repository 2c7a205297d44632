"""Where the semantic class of every pixel of an image is, and how it is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfdetect.data.image_files import count_missing, missing_files
from tfdetect.data.images import IMAGE_SUFFIXES, read_labels, read_size
from tfdetect.data.panoptic import PanopticImage, read_segment_ids, semantic_labels
from tfdetect.errors import InputError

CLASS_NAMES = "classes.txt"
"""In a folder of masks, if it is there: the name of class 0, 1, ..., a line each."""

UNLABELLED = -1
"""The class of what has none, in what `SemSegFile.read` gives."""

_PADDING = 255
"""What augmentations pad with, as Detectron2's."""

_DECODED = 100
"""Masks that are read before the work starts, evenly spread; the others when they are needed."""


@dataclass(frozen=True)
class SemSegFile:
    """The classes of an image's pixels: a mask, or the PNG of its panoptic segments.

    Attributes:
        path: the PNG.
        classes: of each value of a mask, which is the index; `UNLABELLED` without one. None where
            the values are the classes.
        segments: of a panoptic PNG; None of a mask.
        stuff_ids: the categories of the classes, of a panoptic PNG.
    """

    path: Path
    classes: tuple[int, ...] | None = None
    segments: PanopticImage | None = None
    stuff_ids: tuple[int, ...] = ()

    def read(self) -> np.ndarray:
        """int32 [H, W]: the class of each pixel, and `UNLABELLED` where the format says none.

        Raises:
            InputError: the PNG cannot be read, or has a value that stands for nothing.
        """
        if self.segments is not None:
            ids = read_segment_ids(self.segments)
            return semantic_labels(ids, self.segments.segments, self.stuff_ids, UNLABELLED)
        labels = read_labels(self.path)
        if self.classes is None:
            return labels
        if not (labels.min() >= 0 and labels.max() < len(self.classes)):
            raise InputError(
                f"{self.path}: has a value of {labels.max()}, which is not a label of its data set;"
                " replace it"
            )
        return np.array(self.classes, np.int32)[labels]


@dataclass(frozen=True)
class LabelRange:
    """The labels that a model learns.

    Attributes:
        num_classes: MODEL.SEM_SEG_HEAD.NUM_CLASSES.
        ignore_value: MODEL.SEM_SEG_HEAD.IGNORE_VALUE.
    """

    num_classes: int
    ignore_value: int

    @property
    def dtype(self) -> type[np.integer]:
        """uint8 if it holds all of them, else int32."""
        values = (0, self.num_classes - 1, self.ignore_value, _PADDING)
        return np.uint8 if min(values) >= 0 and max(values) <= 255 else np.int32

    def read(self, file: SemSegFile, size: tuple[int, int]) -> np.ndarray:
        """`dtype` [H, W], the class of each pixel or the ignored value.

        Args:
            file: of an image.
            size: height and width that the image has.

        Raises:
            InputError: it cannot be read, has another size, or has other values.
        """
        labels = file.read()
        if labels.shape != size:
            raise wrong_size(file.path, labels.shape, size)
        labels[labels == UNLABELLED] = self.ignore_value
        wrong = ((labels < 0) | (labels >= self.num_classes)) & (labels != self.ignore_value)
        if wrong.any():
            values = np.unique(labels[wrong])
            more = f" and {len(values) - 1} more values" if len(values) > 1 else ""
            raise InputError(
                f"{file.path}: has the value {values[0]}{more}, but MODEL.SEM_SEG_HEAD.NUM_CLASSES"
                f" is {self.num_classes} and IGNORE_VALUE {self.ignore_value}; correct one of them"
            )
        return labels.astype(self.dtype)

    def ignore_padding(self, labels: np.ndarray) -> np.ndarray:
        """`labels` [H, W] after augmentation, whose padding, unless it is a class, is ignored."""
        if self.num_classes > _PADDING or self.ignore_value == _PADDING:
            return labels
        return np.where(labels == _PADDING, self.dtype(self.ignore_value), labels)


def wrong_size(path: Path, found: Sequence[int], expected: Sequence[int]) -> InputError:
    """The error for a mask that is not as large as its image; both sizes are (height, width)."""
    return InputError(
        f"{path}: has {found[1]} x {found[0]} pixels, its image {expected[1]} x {expected[0]}:"
        " give the masks that belong to the images"
    )


def check_sem_seg(
    files: Sequence[tuple[SemSegFile, tuple[int, int]]],
    labels: LabelRange,
    broken: Callable[[InputError], None],
) -> None:
    """Say what is wrong with masks before the work starts.

    That each is there and has the size of its image is seen of all of them, the values of the
    first and the last and of some between.

    Args:
        files: of each image, and the image's (height, width).
        labels: that may be in them.
        broken: gets the errors.
    """
    missing = set(missing_files(file.path for file, _ in files))
    if missing:
        listed = [file.path for file, _ in files if file.path in missing]
        broken(InputError(f"{count_missing(listed, len(files), 'masks')}; add them"))
    present = [pair for pair in files if pair[0].path not in missing]
    fitting = []
    for file, size in present:
        try:
            found = read_size(file.path)
            if found != size:
                raise wrong_size(file.path, found, size)
        except InputError as error:
            broken(error)
            continue
        fitting.append((file, size))
    chosen = np.unique(np.linspace(0, len(fitting) - 1, min(_DECODED, len(fitting))).astype(int))
    for index in chosen.tolist():
        try:
            labels.read(*fitting[index])
        except InputError as error:
            broken(error)


@dataclass(frozen=True)
class SemSegImage:
    """An image and its mask: a name for both, the image's file, its size in pixels, the mask."""

    id: str
    file_name: str
    height: int
    width: int
    sem_seg: SemSegFile


def read_sem_seg_folder(
    masks: str | os.PathLike[str],
    images: str | os.PathLike[str],
    broken: Callable[[InputError], None],
    *,
    only_masked: bool = False,
) -> tuple[SemSegImage, ...]:
    """The images of one folder with the masks of another, by the names without their suffixes.

    Detectron2: `load_sem_seg`, which takes those that have both and says so in its log.

    Args:
        masks: a folder of PNGs.
        images: a folder of images of any format.
        broken: gets the errors of images without a mask and of masks without an image, which are
            left out.
        only_masked: images without a mask are not errors: the masks are those of some of them.

    Returns:
        Sorted by name.

    Raises:
        InputError: a folder cannot be listed, or has no masks; an image is ambiguous.
    """
    masks, images = Path(masks), Path(images)
    of_masks = _by_stem(masks, lambda suffix: suffix == ".png")
    if not of_masks:
        raise InputError(f"{masks}: has no PNG, give the folder of the masks")
    of_images = _by_stem(images, IMAGE_SUFFIXES.__contains__)
    without_image = sorted(set(of_masks) - set(of_images))
    without_mask = [] if only_masked else sorted(set(of_images) - set(of_masks))
    if without_image:
        broken(
            InputError(
                f"{images}: {len(without_image)} of {len(of_masks)} masks have no image there, such"
                f" as {masks / of_masks[without_image[0]]}; add them"
            )
        )
    if without_mask:
        first = images / of_images[without_mask[0]]
        broken(
            InputError(
                f"{masks}: {len(without_mask)} of {len(of_images)} images have no PNG there, such"
                f" as {first}; add them, or remove the images"
            )
        )
    found = []
    for stem in sorted(set(of_masks) & set(of_images)):
        try:
            height, width = read_size(images / of_images[stem])
        except InputError as error:
            broken(error)
            continue
        file = SemSegFile(masks / of_masks[stem])
        found.append(SemSegImage(stem, of_images[stem], height, width, file))
    return tuple(found)


def read_class_names(masks: Path) -> list[str] | None:
    """The names in `CLASS_NAMES` of a folder of masks; None without it."""
    path = masks / CLASS_NAMES
    if not path.is_file():
        return None
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); write a name per line") from error


def _by_stem(folder: Path, wanted: Callable[[str], bool]) -> dict[str, str]:
    """Names of files by their stem."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}), check the name") from error
    found: dict[str, str] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if not wanted(suffix.lower()) or stem.startswith("."):
            continue
        if stem in found:
            raise InputError(f"{folder}: has both {found[stem]} and {name}; remove one of them")
        found[stem] = name
    return found
