"""What --json writes: a record per image, and the maps of panoptic segmentations beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfdetect.data.prediction_record import panoptic_png, prediction_to_dict
from tfdetect.detections import Detections
from tfdetect.files import NewFile, write_bytes_atomically


class PredictionFile:
    """The records of a run, which go to the file one by one.

    Used in a `with` statement: the file appears when it is finished, and an unfinished one is
    removed at the end of the statement. Each record is what `prediction_to_dict` gives, and where
    the model segments images

    - `sem_seg`: of every class that is there, `category_id` and `segmentation` (RLE), as in
      Detectron2's sem_seg_predictions.json;
    - `segments_info`: of every segment id, category_id, isthing, area, and of things score and
      instance_id (an index into the record's detections), as Detectron2 has them;
    - `panoptic_seg`: the PNG of the segments' ids (red + 256 green + 256^2 blue, COCO's form), a
      path relative to the JSON file: NAME.json has its PNGs in NAME_panoptic/.

    Classes are the model's own numbers throughout.

    Args:
        path: the JSON file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = Path(path)
        self._folder = f"{self._path.stem}_panoptic"
        self._names: set[str] = set()
        self._file = NewFile(path)
        self._before = b"["

    def __enter__(self) -> PredictionFile:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def add(
        self, file_name: str, detections: Detections, more: Mapping[str, Any] | None = None
    ) -> None:
        """Take an image's results, and write its PNG if it has one.

        Args:
            file_name: of the image or video.
            detections: the model's results.
            more: for the record, such as the number of a video's frame as `frame`.

        Raises:
            InputError: the file or the PNG cannot be written.
        """
        record = prediction_to_dict(file_name, detections) | dict(more or {})
        if detections.panoptic is not None:
            stem = Path(file_name).stem
            if "frame" in record:
                stem += f"_{record['frame']:06}"
            name = f"{self._folder}/{self._new_name(stem)}.png"
            write_bytes_atomically(self._path.parent / name, panoptic_png(detections.panoptic))
            record["panoptic_seg"] = name
        self._file.write(self._before + json.dumps(record, allow_nan=False).encode())
        self._before = b", "

    def finish(self) -> None:
        """Give the JSON file its name.

        Raises:
            InputError: it cannot be written.
        """
        self._file.write(b"]\n" if self._before == b", " else b"[]\n")
        self._file.finish()

    def _new_name(self, stem: str) -> str:
        """`stem`, with a number where an image of that name was before."""
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem}_{number}"
        self._names.add(name)
        return name
