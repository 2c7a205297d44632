"""Parts: the Parquet files that a batch run writes, each with the results of a range of images."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfdetect.data.prediction_record import panoptic_png, prediction_to_dict
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.files import write_bytes_atomically

if TYPE_CHECKING:
    import pyarrow

    from tfdetect.inference.predictor import Predictor

_NAME = re.compile(r"part-([0-9]{10})-([0-9]{10})\.parquet")
METADATA = b"tfdetect"
"""The key of the files' metadata under which `model_metadata` is, as JSON."""


def part_path(folder: Path, start: int, stop: int) -> Path:
    """The file of images `start` to `stop`."""
    return folder / f"part-{start:010}-{stop:010}.parquet"


def written_ranges(folder: Path) -> list[tuple[int, int]]:
    """(start, stop) of the parts in a folder, sorted.

    Raises:
        InputError: the folder cannot be read, or two of them have an image in common.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); check it") from error
    found = (_NAME.fullmatch(name) for name in names)
    ranges = sorted((int(match[1]), int(match[2])) for match in found if match)
    for (start, stop), (following, end) in itertools.pairwise(ranges):
        if following < stop:
            raise InputError(
                f"{part_path(folder, start, stop)} and {part_path(folder, following, end).name} "
                "have images in common; delete one of them, and run again with --resume"
            )
    return ranges


def missing_ranges(
    start: int, stop: int, written: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """The parts of [start, stop) that the sorted ranges `written` leave out."""
    for first, last in written:
        if last <= start:
            continue
        if first >= stop:
            break
        if first > start:
            yield start, first
        start = last
    if start < stop:
        yield start, stop


def model_metadata(predictor: Predictor) -> dict[str, Any]:
    """What a reader has to know of the model, for the files' metadata."""
    from tfdetect.modeling.conventions import conventions  # imports TensorFlow

    rules = conventions(predictor.cfg)
    return {
        "class_names": predictor.class_names,
        "stuff_class_names": predictor.stuff_class_names,
        "keypoint_names": predictor.keypoint_names,
        "box_extent": float(rules.inclusive_boxes),
        "keypoint_offset": rules.keypoint_offset,
    }


def schema_of(predictor: Predictor) -> pyarrow.Schema:
    """The columns of a model's results; docs/batch.md describes them."""
    import pyarrow as pa

    able = predictor.capabilities
    rle = pa.struct({"size": pa.list_(pa.int32()), "counts": pa.string()})
    columns: dict[str, Any] = {
        "image_index": pa.int64(),
        "file_name": pa.string(),
        "height": pa.int32(),
        "width": pa.int32(),
        "pred_boxes": pa.list_(pa.list_(pa.float32())),
        "scores": pa.list_(pa.float32()),
        "pred_classes": pa.list_(pa.int32()),
    }
    if able.has_masks:
        columns["pred_masks"] = pa.list_(rle)
    if able.has_keypoints:
        columns["pred_keypoints"] = pa.list_(pa.list_(pa.list_(pa.float32())))
    if able.has_semantic:
        columns["sem_seg"] = pa.list_(pa.struct({"category_id": pa.int32(), "segmentation": rle}))
    if able.has_panoptic:
        segment = {"id": pa.int32(), "category_id": pa.int32(), "isthing": pa.bool_()}
        segment |= {"area": pa.int64(), "score": pa.float32(), "instance_id": pa.int32()}
        columns["panoptic_seg"] = pa.binary()
        columns["segments_info"] = pa.list_(pa.struct(segment))
    columns["error"] = pa.string()
    metadata = {METADATA: json.dumps(model_metadata(predictor)).encode()}
    return pa.schema(columns, metadata)


def to_row(index: int, file_name: str, detections: Detections) -> dict[str, Any]:
    """One image's results as a row of `schema_of`."""
    row = {"image_index": index, **prediction_to_dict(file_name, detections)}
    if detections.panoptic is not None:
        row["panoptic_seg"] = panoptic_png(detections.panoptic)
    return row


def error_row(index: int, file_name: str, error: str) -> dict[str, Any]:
    """The row of an image that has no results."""
    return {"image_index": index, "file_name": file_name, "error": " ".join(error.split())[:1000]}


def write_part(
    folder: Path, schema: pyarrow.Schema, start: int, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write the rows of images `start` to `start + len(rows)`, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet

    names = schema.names
    columns = {name: [row.get(name) for row in rows] for name in names}
    content = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns, schema), content, compression="zstd")
    write_bytes_atomically(part_path(folder, start, start + len(rows)), content.getvalue())
