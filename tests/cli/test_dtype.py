"""predict.py --dtype bfloat16."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tfdetect
import tfdetect.cli.predict
from tests.support.paths import DEMO
from tests.support.predictors import shared_predictor
from tfdetect.data import shapes
from tfdetect.data.images import read_image
from tfdetect.errors import InputError

pytestmark = pytest.mark.usefixtures("shared_predictors")


def test_boxes_stay_float32(model_dir, tmp_path):
    """What is found is what float32 finds: boxes within a pixel or two, not rounded to 8 bits."""
    file = tmp_path / "found.json"
    image = DEMO / "images" / "000056.jpg"
    command = ["--model", str(model_dir), "--input", str(image), "--json", str(file)]
    assert tfdetect.cli.predict.main([*command, "--dtype", "bfloat16"]) == 0
    (record,) = json.loads(file.read_text())
    found = shared_predictor(model_dir, dtype="bfloat16")(read_image(image))
    assert found.boxes.dtype == found.scores.dtype == found.keypoints.dtype == np.float32
    np.testing.assert_array_equal(record["pred_boxes"], found.boxes)
    exact = shared_predictor(model_dir)(read_image(image))
    sure, exactly = found.select(found.scores > 0.9), exact.select(exact.scores > 0.9)
    assert len(sure) == len(exactly) > 0
    np.testing.assert_allclose(np.sort(sure.boxes, 0), np.sort(exactly.boxes, 0), atol=2)
    assert not np.array_equal(sure.boxes, exactly.boxes)
    bits = found.boxes.ravel().view(np.uint32)
    assert (bits & 0xFFFF).any()  # more than bfloat16 holds


def test_there_is_no_other(model_dir):
    with pytest.raises(InputError, match="it is float32 or bfloat16"):
        tfdetect.Predictor(model_dir, dtype="float16")


@pytest.mark.full
def test_average_precision(model_dir, tmp_path):
    """Within 0.2 of float32's on 1000 pictures (measured: 0.07 of boxes, 0.04 of masks and 0.02 of
    keypoints). On the demo's sixty, chance alone moves it by as much."""
    shapes.write_shapes(tmp_path / "val", 1000, 11)
    metrics = {}
    for dtype in ("float32", "bfloat16"):
        command = ["--model", str(model_dir), "--dtype", dtype, "--output", str(tmp_path / dtype)]
        command += ["--evaluate", str(tmp_path / "val" / "annotations.json")]
        command += ["--images", str(tmp_path / "val" / "images")]
        assert tfdetect.cli.predict.main(command) == 0
        metrics[dtype] = json.loads((tmp_path / dtype / "metrics.json").read_text())
    for task in ("bbox", "segm", "keypoints"):
        assert metrics["float32"][task]["AP"] > 25
        assert abs(metrics["bfloat16"][task]["AP"] - metrics["float32"][task]["AP"]) < 0.2
