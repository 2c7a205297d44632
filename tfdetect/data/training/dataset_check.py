"""Everything that is wrong with a data set, in one report."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfdetect.data import coco
from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.data.image_files import missing_files
from tfdetect.data.images import read_image, read_size
from tfdetect.data.other_formats.reading import OTHER_FORMS
from tfdetect.data.registry import dataset_metadata, dota_files, other_content
from tfdetect.data.rotated import around_rotated
from tfdetect.data.sem_seg import LabelRange, check_sem_seg
from tfdetect.data.training.record import Record
from tfdetect.data.training.records import read_records
from tfdetect.errors import InputError

SHOWN = 5
"""Of each kind of finding."""

_IGNORED_LABEL = 255
# What differs between two findings of a kind.
_PATH = r"(?:/|\.{0,2}/)?(?:[^\s:]*/)+[^\s:]*|[^\s:/]+\.(?:json|txt|xml|png|jpe?g|bmp|tiff?|webp)"
_PLACE = re.compile(rf"^(?:{_PATH}): ")
_VALUE = re.compile(rf"'[^']*'|{_PATH}|[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass
class Findings:
    """Messages by kind: those that differ only in names, values and numbers are of one."""

    by_kind: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _seen: set[str] = field(default_factory=set)

    def __call__(self, error: InputError | str) -> None:
        """Add a message, once."""
        message = " ".join(str(error).split())
        if message not in self._seen:
            self._seen.add(message)
            self.by_kind[_VALUE.sub("…", _PLACE.sub("", message))].append(message)

    def add(self, kind: str, messages: Iterable[str]) -> None:
        """Add messages of one kind."""
        for message in messages:
            self.by_kind[kind].append(message)

    def __len__(self) -> int:
        return sum(map(len, self.by_kind.values()))


@dataclass
class DatasetCheck:
    """What a data set has, and what is wrong with it.

    Attributes:
        form: the format's name, as of `DatasetFiles`.
        images: how many there are.
        objects: how many usable ones.
        per_class: of each class its objects and the images with them.
        errors: what a training or an evaluation would stop at.
        notes: what it would not, but hardly anybody means.
    """

    form: str
    images: int = 0
    objects: int = 0
    per_class: dict[str, tuple[int, int]] = field(default_factory=dict)
    errors: Findings = field(default_factory=Findings)
    notes: Findings = field(default_factory=Findings)

    def as_json(self) -> dict[str, Any]:
        """For a file: every finding, not only the first ones."""
        return {
            "format": self.form,
            "images": self.images,
            "objects": self.objects,
            "classes": {
                name: {"objects": objects, "images": images}
                for name, (objects, images) in self.per_class.items()
            },
            "errors": dict(self.errors.by_kind),
            "notes": dict(self.notes.by_kind),
        }


def check_dataset(files: DatasetFiles, *, decode: bool = False) -> DatasetCheck:
    """Find all that training and evaluation say of a data set, and what is unusual in it.

    Masks and keypoints are checked where there are any.

    Args:
        files: the data set.
        decode: whether every image is decoded, which takes as long as training needs for it; else
            only its header is read.
    """
    found = DatasetCheck(files.form)
    errors = found.errors
    try:
        if files.form in OTHER_FORMS:
            for error in other_content(files).errors:
                errors(error)
        metadata = dataset_metadata(files)
        has_masks, rotated = _of_objects(files, errors)
        names = metadata.keypoint_names
        keypoints = len(names) if names else None
        records = read_records(files, None, keypoints, rotated, errors)
        if has_masks:
            read_records(files, "bitmask", keypoints, rotated, errors)
    except InputError as error:
        errors(error)
        return found
    found.images = len(records)
    found.objects = sum(len(record.annotations) for record in records)
    found.per_class = _count(metadata.thing_classes, records)
    present = _check_images(files, records, errors, decode)
    labelled = [(r.sem_seg, (r.height, r.width)) for r in records if r.sem_seg is not None]
    if labelled and metadata.stuff_classes:
        labels = LabelRange(len(metadata.stuff_classes), _IGNORED_LABEL)
        try:
            check_sem_seg(labelled, labels, errors)
        except InputError as error:
            errors(error)
    _note(found, present, rotated)
    return found


def _of_objects(files: DatasetFiles, errors: Findings) -> tuple[bool, bool]:
    """Whether there are masks, and whether boxes are rotated; adds what evaluation rejects."""
    if files.form == "DOTA":
        dota_files(files)
        return False, True
    if files.form in OTHER_FORMS:
        entries = other_content(files).annotations
        return any("segmentation" in entry for entry in entries), False
    if files.form not in ("COCO", "SEPARATED"):
        return files.form == "PANOPTIC", False
    dataset = coco.read_coco(files.annotations, errors)
    annotations = dataset.annotations or ()
    rotated = any(len(entry["bbox"]) == 5 for entry in annotations)
    has_masks = any(entry.get("segmentation") for entry in annotations)
    tasks = ["bbox", *(["segm"] if has_masks else [])]
    coco.ground_truth(dataset, tasks, report=errors, rotated=rotated)
    return has_masks, rotated


def _count(names: Sequence[str], records: Sequence[Record]) -> dict[str, tuple[int, int]]:
    objects: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for record in records:
        classes = [annotation.class_index for annotation in record.annotations]
        objects.update(classes)
        images.update(set(classes))
    return {name: (objects[index], images[index]) for index, name in enumerate(names)}


def _check_images(
    files: DatasetFiles, records: Sequence[Record], errors: Findings, decode: bool
) -> list[Record]:
    """Report images that are missing, damaged or of another size; gives the others' records."""
    missing = set(missing_files(Path(record.file_name) for record in records))
    present = []
    for record in records:
        path = Path(record.file_name)
        if path in missing:
            errors(f"{path}: is missing")
            continue
        try:
            size = read_image(path).shape[:2] if decode else read_size(path)
        except InputError as error:
            errors(error)
            continue
        if tuple(size) != (record.height, record.width):
            errors(
                f"{path}: has {size[1]} x {size[0]} pixels, in {files.annotations} it has "
                f"{record.width} x {record.height}"
            )
        present.append(record)
    return present


def _note(found: DatasetCheck, records: Sequence[Record], rotated: bool) -> None:
    """What is unusual in the images that are there."""
    notes = found.notes
    notes.add(
        "class without objects", (n for n, (count, _) in found.per_class.items() if not count)
    )
    by_file = Counter(record.file_name for record in records)
    notes.add("image that is listed twice", (name for name, count in by_file.items() if count > 1))
    for record in records:
        name, objects = record.file_name, record.annotations
        if not objects and record.sem_seg is None:
            notes.add("image without objects", [name])
        elif objects and all(annotation.iscrowd for annotation in objects):
            notes.add("image with nothing but crowds", [name])
        seen = set()
        for annotation in objects:
            box = around_rotated(annotation.box[None])[0] if rotated else annotation.box
            x1, y1, x2, y2 = (float(value) for value in box)
            where = f"{name}: class {annotation.class_index}, box {_shown(annotation.box)}"
            if min(x2 - x1, y2 - y1) <= 0:
                notes.add("box without area", [where])
            elif min(x2 - x1, y2 - y1) < 1:
                notes.add("box of less than a pixel", [where])
            # What a tool rounds up is no more than a pixel.
            if x1 < -1 or y1 < -1 or x2 > record.width + 1 or y2 > record.height + 1:
                kind = "box partly outside of the image"
                if x2 <= 0 or y2 <= 0 or x1 >= record.width or y1 >= record.height:
                    kind = "box outside of the image"
                notes.add(kind, [where])
            key = annotation.class_index, annotation.box.tobytes()
            if key in seen:
                notes.add("object that is there twice", [where])
            seen.add(key)


def _shown(box: np.ndarray) -> str:
    return " ".join(f"{value:g}" for value in np.round(box, 1))


def format_check(found: DatasetCheck) -> str:
    """The report as text: counts, and the first findings of each kind."""
    lines = [f"format   {found.form}", f"images   {found.images}", f"objects  {found.objects}"]
    if found.per_class:
        width = max(map(len, [*found.per_class, "class"]))
        lines += ["", f"{'class':<{width}}  objects  images"]
        lines += [
            f"{name:<{width}}  {objects:>7}  {images:>6}"
            for name, (objects, images) in found.per_class.items()
        ]
    for title, findings in (("errors", found.errors), ("notes", found.notes)):
        lines += ["", f"{title}: {len(findings) or 'none'}"]
        for kind, messages in sorted(findings.by_kind.items(), key=lambda item: -len(item[1])):
            lines.append(f"  {len(messages)} x {kind}")
            lines += [f"      {message}" for message in messages[:SHOWN]]
            if len(messages) > SHOWN:
                lines.append(f"      and {len(messages) - SHOWN} more")
    return "\n".join(lines)
