"""A batch run's results in COCO's formats, written as they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_codec

from tfdetect.batch.parquet import open_parquet
from tfdetect.batch.parts import METADATA, missing_ranges, part_path, written_ranges
from tfdetect.batch.run_file import RUN, read_run
from tfdetect.data.class_names import match_classes
from tfdetect.data.coco import CocoDataset
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.evaluation.coco import to_results
from tfdetect.files import NewFile

_ROWS = 64
_VISIBLE = 2


class BatchResults:
    """The results of a batch run.

    Args:
        folder: what `tfdetect batch` wrote.
        partial: whether images may be missing.

    Attributes:
        metadata: of the model, `model_metadata`.
        missing: how many images have no row.

    Raises:
        InputError: there is no run in the folder, images are missing, or a file cannot be read.
    """

    def __init__(self, folder: Path, *, partial: bool = False):
        self._folder = folder
        total = read_run(folder / RUN)["images"]
        self._ranges = written_ranges(folder)
        if not self._ranges:
            raise InputError(f"{folder}: has no results yet; run tfdetect batch first")
        gaps = missing_ranges(0, total, self._ranges)
        self.missing = sum(stop - start for start, stop in gaps)
        if self.missing and not partial:
            raise InputError(
                f"{folder}: {self.missing} of {total} images are missing; finish the run with "
                "tfdetect batch --resume, or give --partial"
            )
        first = part_path(folder, *self._ranges[0])
        with open_parquet(first) as file:
            try:
                self.metadata: dict[str, Any] = json.loads(file.schema_arrow.metadata[METADATA])
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{first}: was not written by tfdetect batch; take it out of the folder"
                ) from error

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Every row in the order of the images, with these columns of those that there are.

        Raises:
            InputError: a file is damaged.
        """
        for start, stop in self._ranges:
            path = part_path(self._folder, start, stop)
            count = 0
            with open_parquet(path) as file:
                names = file.schema_arrow.names
                if columns is not None:
                    names = [name for name in columns if name in names]
                for batch in file.iter_batches(_ROWS, columns=names):
                    count += len(batch)
                    yield from batch.to_pylist()
            if count != stop - start:
                raise InputError(
                    f"{path}: has {count} rows instead of {stop - start}; delete it and run "
                    "tfdetect batch --resume"
                )

    def detections(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Yield each row that has no error, and its records as of `coco.to_results`, with the image
        index as image_id and the model's class as category_id."""
        classes = range(len(self.metadata["class_names"]))
        for row in self.rows(_COLUMNS):
            if row["error"] is None:
                yield row, _records(row, self.metadata, classes)


_COLUMNS = (
    *("image_index", "file_name", "height", "width", "pred_boxes", "scores"),
    *("pred_classes", "pred_masks", "pred_keypoints", "error"),
)


def _records(
    row: Mapping[str, Any], metadata: Mapping[str, Any], classes: Sequence[int]
) -> list[dict[str, Any]]:
    boxes = np.array(row["pred_boxes"], np.float32).reshape(len(row["scores"]), -1)
    keypoints = row.get("pred_keypoints")
    found = Detections(
        row["height"],
        row["width"],
        boxes if len(boxes) else boxes.reshape(0, 4),
        np.array(row["scores"], np.float32),
        np.array(row["pred_classes"], np.int64),
        keypoints=np.array(keypoints, np.float32) if keypoints else None,
        box_extent=metadata["box_extent"],
        keypoint_offset=metadata["keypoint_offset"],
    )
    records = to_results(found, row["image_index"], classes)
    # They are encoded already.
    for record, rle in zip(records, row.get("pred_masks") or (), strict=False):
        record["segmentation"] = rle
    return records


def write_dataset(path: str | os.PathLike[str], results: BatchResults, threshold: float) -> None:
    """Write a data set in COCO's format with the detections as annotations.

    Image ids are the image indices, category ids 1 to the number of classes. Annotations have a
    `score` too, keypoints are all visible.

    Args:
        path: the JSON file.
        results: of the run; images with an error are left out.
        threshold: the least score.

    Raises:
        InputError: the file cannot be written, or results cannot be read.
    """
    keypoints = results.metadata["keypoint_names"]
    categories = [
        {"id": index + 1, "name": name} | ({"keypoints": keypoints} if keypoints else {})
        for index, name in enumerate(results.metadata["class_names"])
    ]
    with NewFile(path) as file:
        file.write(b'{"categories": ' + json.dumps(categories).encode() + b', "images": ')
        _write_list(file, _images(results))
        file.write(b', "annotations": ')
        _write_list(file, _annotations(results, threshold))
        file.write(b"}\n")
        file.finish()


def _images(results: BatchResults) -> Iterator[dict[str, Any]]:
    for row in results.rows(("image_index", "file_name", "height", "width", "error")):
        if row["error"] is None:
            yield {"id": row["image_index"]} | {
                key: row[key] for key in ("file_name", "height", "width")
            }


def _annotations(results: BatchResults, threshold: float) -> Iterator[dict[str, Any]]:
    number = 0
    for _, records in results.detections():
        for record in records:
            if record["score"] < threshold:
                continue
            number += 1
            width, height = record["bbox"][2:4]
            area = float(width * height)
            if "segmentation" in record:
                area = float(mask_codec.area(record["segmentation"]))
            record |= {"id": number, "area": area, "iscrowd": 0}
            record["category_id"] += 1
            if "keypoints" in record:
                record["num_keypoints"] = len(record["keypoints"]) // 3
                record["keypoints"][2::3] = [_VISIBLE] * record["num_keypoints"]
            yield record


def write_results(
    path: str | os.PathLike[str],
    results: BatchResults,
    dataset: CocoDataset,
    threshold: float,
    note: Callable[[str], None],
) -> None:
    """Write results of the images of a data set, as COCO's evaluation reads them.

    Args:
        path: the JSON file.
        results: of the run.
        dataset: its images are found by their file names, classes by their names.
        threshold: the least score.
        note: gets lines that say what was left out.

    Raises:
        InputError: the file cannot be written, results cannot be read, none of the images is in the
            data set or one of them twice, or the classes do not match.
    """
    names = results.metadata["class_names"]
    match = match_classes(str(dataset.path), names, dataset.category_names, set())
    if match.note is not None:
        note(match.note)
    ids = {image.file_name: image.id for image in dataset.images}
    found: dict[int, str] = {}
    unknown = 0

    def records() -> Iterator[dict[str, Any]]:
        nonlocal unknown
        for row, of_image in results.detections():
            image_id = _find(row["file_name"], ids)
            if image_id is None:
                unknown += 1
                continue
            if image_id in found:
                raise InputError(
                    f"{dataset.path}: {found[image_id]} and {row['file_name']} are both its image "
                    f"{image_id}; give each image once"
                )
            found[image_id] = row["file_name"]
            for record in of_image:
                index = match.indices[record["category_id"]]
                if index is not None and record["score"] >= threshold:
                    category = dataset.category_ids[index]
                    yield record | {"image_id": image_id, "category_id": category}

    with NewFile(path) as file:
        _write_list(file, records())
        if not found:
            raise InputError(f"{dataset.path}: has none of the images of the run; check the names")
        file.write(b"\n")
        file.finish()
    if unknown:
        note(f"{dataset.path}: does not have {unknown} of the run's images; they are left out")
    if len(ids) > len(found):
        note(f"{dataset.path}: {len(ids) - len(found)} of its images have no results")


def _find(name: str, ids: Mapping[str, int]) -> int | None:
    """The id of an image, whose name in the data set may be the end of its path."""
    parts = name.split("/")
    for start in range(len(parts)):
        image_id = ids.get("/".join(parts[start:]))
        if image_id is not None:
            return image_id
    return None


def _write_list(file: NewFile, values: Iterator[dict[str, Any]]) -> None:
    before = b"["
    for value in values:
        file.write(before + json.dumps(value, allow_nan=False).encode())
        before = b",\n"
    file.write(b"[]" if before == b"[" else b"]")
