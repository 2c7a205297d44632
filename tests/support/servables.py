"""The demo model as a SavedModel, one for a run, and predict.py's detections to compare with."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from PIL import Image

import tfdetect.cli.predict
from tests.support.native import using_ops
from tests.support.paths import DEMO
from tests.support.shared import demo_model, made_once
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.export.saved_model import OP_LIBRARY, export_savedmodel, servable_backend
from tfdetect.inference.optimization import optimize
from tfdetect.inference.predictor import Predictor
from tfdetect.masks.rle import encode_mask

_FOLDER = tempfile.TemporaryDirectory()
FOLDER = Path(_FOLDER.name)
IMAGES = [DEMO / "images" / name for name in ("000056.jpg", "000001.jpg", "000002.jpg")]
"""Three images of different sizes."""


class Servable(NamedTuple):
    """A SavedModel's folder, and the library of its native operators, if they are."""

    path: Path
    library: Path | None


def model_dir() -> Path:
    """The demo's model of boxes, masks and keypoints; to be left as it is."""
    return demo_model()


def exported(ops: str) -> Servable:
    """Its SavedModel, of batches up to 4; to be left as it is."""

    def export(folder: Path) -> None:
        export_savedmodel(model_dir(), folder, ops=ops, max_batch=4)

    path = made_once(f"servable_{ops}", export) / "1"
    return Servable(path, path / "assets" / OP_LIBRARY if ops == "native" else None)


@functools.cache
def _predictor(ops: str) -> Predictor:
    # Of the servable's convolutions, which do not depend on this processor's instruction set.
    cfg, model, metadata = load_model(model_dir())
    backend = servable_backend(ops)
    return Predictor.of_model(cfg, optimize(model, backend), metadata, backend)


def predicted(images: list[Path], ops: str) -> list[dict]:
    """The records that predict.py writes of one batch; it loads its model once for all tests."""
    file = FOLDER / "predicted.json"
    command = ["--model", str(model_dir()), "--input", *map(str, images)]
    command += ["--batch-size", str(len(images)), "--json", str(file)]
    loaded = mock.patch("tfdetect.inference.predictor.Predictor", return_value=_predictor(ops))
    with loaded, using_ops(ops):
        assert tfdetect.cli.predict.main(command) == 0
    return json.loads(file.read_text())


def assert_predicted(found: dict[str, np.ndarray], index: int, record: dict) -> None:
    """Image `index` of a batch has exactly the detections of a record, and zeros after them."""
    count = len(record["scores"])
    assert found["num_detections"][index] == count
    height, width = record["height"], record["width"]
    if "image_sizes" in found:
        np.testing.assert_array_equal(found["image_sizes"][index], (height, width))
    for name in ("pred_boxes", "scores", "pred_classes", "pred_keypoints"):
        values, expected = np.asarray(found[name][index]), record[name]
        np.testing.assert_array_equal(values[:count], np.array(expected, values.dtype))
        assert not values[count:].any()
    masks = np.asarray(found["pred_masks"][index])
    assert not masks[count:].any()
    if masks.dtype == np.bool_:
        assert not masks[:, height:].any()
        assert not masks[:, :, width:].any()
        assert [encode_mask(m[:height, :width]) for m in masks[:count]] == record["pred_masks"]
    else:
        assert masks.shape[1:] == (28, 28)


def write_kinds(folder: Path) -> list[Path]:
    """An image with objects as JPEGs and PNGs of every kind."""
    photo = Image.open(IMAGES[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo.save(folder / "turned.jpg", exif=exif, quality=95)
    photo.convert("L").save(folder / "grey.jpg")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    translucent = photo.convert("RGBA")
    translucent.putalpha(100)
    translucent.save(folder / "alpha.png")
    return [folder / name for name in ("turned.jpg", "grey.jpg", "cmyk.jpg", "alpha.png")]
