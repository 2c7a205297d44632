"""What --json writes of an image."""

from __future__ import annotations

import json

import pytest

from tests.support.paths import DATA
from tests.support.records import detections_of
from tfdetect.data.prediction_record import prediction_to_dict

TINY = DATA / "tiny"


@pytest.mark.parametrize("model", json.loads((TINY / "detectron2_coco_ap.json").read_text()))
def test_prediction_record_is_detectron2s(model):
    for expected in json.loads((TINY / f"{model}.json").read_text()):
        record = prediction_to_dict(expected["file_name"], detections_of(expected))
        del expected["image_id"]
        assert record == expected
        assert list(record) == list(expected)
