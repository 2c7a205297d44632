"""Dense models through convert_d2.py, predict.py and the Predictor."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_codec

import convert_d2.command
import tfdetect.cli.predict
from benchmarks import seeded_weights
from tests.support.dense_models import CONFIGS, NARROW
from tests.support.paths import DEMO, ROOT
from tests.support.predictors import shared_predictor
from tfdetect.checkpoint.names import named_variables
from tfdetect.config import load_config
from tfdetect.data.images import read_image
from tfdetect.modeling.build import build_model

pytestmark = pytest.mark.usefixtures("shared_predictors")

IMAGES = [DEMO / "images" / name for name in ("000000.jpg", "000001.jpg")]
# The classes of COCO, so that the data set's names fit.
OPTIONS = {key: value for key, value in NARROW.items() if not key.endswith("NUM_CLASSES")}


@pytest.fixture(scope="module")
def convert(tmp_path_factory):
    """A function that makes a model's directory."""

    def make(name, *more):
        folder = tmp_path_factory.mktemp(name)
        config = ROOT / "configs" / f"{CONFIGS[name]}.yaml"
        options = [str(item) for pair in OPTIONS.items() for item in pair]
        options += [str(item) for item in more]
        model = build_model(load_config(config, options))
        shapes = {named.name: named.foreign_shape for named in named_variables(model)}
        weights = folder / "model.pkl"
        arrays = seeded_weights.state_dict(shapes)
        weights.write_bytes(pickle.dumps({"model": arrays, "__author__": "test"}))
        command = ["--config-file", str(config), "--weights", str(weights)]
        command += ["--output", str(folder / "model"), "--opts", *options]
        assert convert_d2.command.main(command) == 0
        return folder / "model"

    return make


def predict(model, folder):
    command = ["--model", str(model), "--input", *map(str, IMAGES)]
    command += ["--output", str(folder / "pictures"), "--json", str(folder / "found.json")]
    assert tfdetect.cli.predict.main(command) == 0
    for path in IMAGES:
        image, drawn = read_image(path), read_image(folder / "pictures" / path.name)
        enlarged = drawn.shape[0] // image.shape[0]
        assert drawn.shape == (image.shape[0] * enlarged, image.shape[1] * enlarged, 3)
    return json.loads((folder / "found.json").read_text())


def test_panoptic(convert, tmp_path, capsys):
    model = convert("panoptic")
    assert "80 classes, 54 stuff classes" in capsys.readouterr().out
    records = predict(model, tmp_path)
    predictor = shared_predictor(model)
    assert predictor.stuff_class_names[:2] == ["things", "banner"]
    assert len(predictor.stuff_colors) == 54
    several = predictor([read_image(path) for path in IMAGES])
    for path, record, batched in zip(IMAGES, records, several, strict=True):
        found = predictor(read_image(path))
        assert found.sem_seg.shape == found.panoptic.ids.shape == (found.height, found.width)
        assert record["panoptic_seg"] == f"found_panoptic/{path.stem}.png"
        rgb = np.asarray(Image.open(tmp_path / record["panoptic_seg"])).astype(int)
        np.testing.assert_array_equal(rgb @ [1, 256, 65536], found.panoptic.ids)
        segments = record["segments_info"]
        assert [segment["id"] for segment in segments] == list(range(1, len(segments) + 1))
        assert {segment["isthing"] for segment in segments} == {True, False}
        for segment in segments:
            assert segment["area"] == (found.panoptic.ids == segment["id"]).sum()
            if segment["isthing"]:
                index = segment["instance_id"]
                assert record["scores"][index] == pytest.approx(segment["score"])
                assert record["pred_classes"][index] == segment["category_id"]
            else:
                assert segment.keys() == {"id", "category_id", "isthing", "area"}
        # The two images have one size, so that in a batch each is as alone.
        assert (batched.panoptic.ids == found.panoptic.ids).mean() > 0.999
        assert found.select(np.array([], int)).panoptic is found.panoptic


@pytest.mark.full
def test_semantic(convert, tmp_path, capsys):
    model = convert("semantic")
    assert ", 54 stuff classes" in capsys.readouterr().out
    records = predict(model, tmp_path)
    predictor = shared_predictor(model)
    assert predictor.class_names == []
    for path, record in zip(IMAGES, records, strict=True):
        found = predictor(read_image(path))
        assert len(found) == 0
        assert record["pred_boxes"] == []
        labels = np.full(found.sem_seg.shape, -1)
        for entry in record["sem_seg"]:
            rle = dict(entry["segmentation"], counts=entry["segmentation"]["counts"].encode())
            labels[mask_codec.decode(rle).astype(bool)] = entry["category_id"]
        np.testing.assert_array_equal(labels, found.sem_seg)
    names = capsys.readouterr().out.splitlines()[0].rpartition(": ")[2]
    largest = np.bincount(predictor(read_image(IMAGES[0])).sem_seg.ravel()).argmax()
    assert names.startswith(predictor.stuff_class_names[largest])


def test_semantic_with_names_from_a_file(convert, tmp_path):
    """Categories of --metadata are its classes; without the file they are numbered."""
    more = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 4]
    model = convert("semantic", *more)
    assert shared_predictor(model).stuff_class_names == [f"stuff {index}" for index in range(4)]
    command = ["--config-file", str(model / "config.yaml"), "--output", str(tmp_path / "named")]
    command += ["--weights", str(model.parent / "model.pkl")]
    command += ["--metadata", str(DEMO / "annotations.json")]
    assert convert_d2.command.main(command) == 0
    assert shared_predictor(tmp_path / "named").stuff_class_names[:2] == ["person", "circle"]


@pytest.mark.parametrize("name", ["retinanet", pytest.param("fcos", marks=pytest.mark.full)])
def test_dense_detectors(convert, tmp_path, name):
    model = convert(name)
    records = predict(model, tmp_path)
    predictor = shared_predictor(model)
    assert predictor.class_names[0] == "person"
    found = predictor(read_image(IMAGES[0]))
    assert len(found) == len(records[0]["scores"]) > 2
    assert found.masks is None
    assert found.sem_seg is None
    assert "sem_seg" not in records[0]
