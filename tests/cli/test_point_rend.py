"""PointRend through the commands: convert (from old names), predict, evaluate, export, train."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

import convert_d2.command
import tfdetect
import tfdetect.cli.evaluate
import tfdetect.cli.predict
import tfdetect.cli.train
from benchmarks.seeded_weights import state_dict
from convert_d2.inspection import describe
from tests.support.commands import fails
from tests.support.comparison import compare
from tests.support.paths import DEMO
from tests.support.point_rend import load_arrays, records, state_dicts, write_config
from tfdetect.checkpoint.model_dir import load_model
from tfdetect.checkpoint.names import named_variables
from tfdetect.data.images import read_image
from tfdetect.export.saved_model import export_savedmodel
from tfdetect.masks.rle import encode_mask
from tfdetect.ops.paste_masks import paste_masks

NAMES = ("000000.jpg", "000001.jpg")
IMAGES = [str(DEMO / "images" / name) for name in NAMES]
NEW_TO_OLD = {new: old for old, new in records()["old_names_to_new"].items()}


def write_weights(kind, path, old=False):
    """The checkpoint of a narrow model with seeded weights, by the names of old versions or new."""
    arrays = state_dict(state_dicts()[f"narrow_{kind}"])
    for name in [name for name in arrays if "parameter_head.prediction" in name]:
        arrays[name] = arrays[name] * np.float32(0.1)
    if old:
        arrays = {NEW_TO_OLD.get(name, name): array for name, array in arrays.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "tests"}))
    return path


@pytest.fixture(scope="module")
def convert(tmp_path_factory):
    """A function that makes a model's directory, each once."""
    made = {}

    def make(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            weights = write_weights(kind, folder / "model.pkl", old=kind == "instance")
            command = ["--config-file", str(write_config(f"narrow_{kind}", folder))]
            command += ["--weights", str(weights), "--output", str(folder / "model")]
            if kind != "semantic":
                command += ["--metadata", str(DEMO / "annotations.json")]
            assert convert_d2.command.main(command) == 0
            made[kind] = folder / "model"
        return made[kind]

    return make


def recorded_of(kind):
    arrays, result = load_arrays(f"narrow_{kind}"), []
    for index, path in enumerate(IMAGES):
        height, width = read_image(path).shape[:2]
        counts = json.loads(str(arrays[f"pred_masks_rle_{index}"]))
        result.append(
            {
                "file_name": Path(path).name,
                "height": height,
                "width": width,
                "pred_boxes": arrays[f"pred_boxes_{index}"],
                "scores": arrays[f"pred_scores_{index}"],
                "pred_classes": arrays[f"pred_classes_{index}"],
                "pred_masks": [{"size": [height, width], "counts": text} for text in counts],
            }
        )
    return result


def assert_as_recorded(found, kind):
    """Tolerances: tests/parity/test_point_rend.py."""
    total = compare(found, recorded_of(kind), iou=0.999, score=1e-5)
    assert total.matched == total.expected == 80
    assert total.extra == 0
    assert np.mean(total.mask_ious) > 0.999


@pytest.mark.parametrize("kind", ["instance", pytest.param("implicit", marks=pytest.mark.full)])
def test_predict(kind, convert, tmp_path):
    """From a checkpoint with the names of old versions ("instance") to Detectron2's masks."""
    command = ["--model", str(convert(kind)), "--input", *IMAGES, "--batch-size", "2"]
    assert tfdetect.cli.predict.main([*command, "--json", str(tmp_path / "found.json")]) == 0
    assert_as_recorded(json.loads((tmp_path / "found.json").read_text()), kind)


@pytest.mark.full
def test_predict_semantic(convert):
    predictor, arrays = tfdetect.Predictor(convert("semantic")), load_arrays("narrow_semantic")
    assert predictor.stuff_class_names == [f"stuff {index}" for index in range(5)]
    for index, path in enumerate(IMAGES):
        found = predictor(read_image(path)).sem_seg
        assert np.mean(found == arrays[f"argmax_{index}"]) > 1 - 1e-4


@pytest.mark.full
def test_evaluate(convert, tmp_path):
    content = json.loads((DEMO / "annotations.json").read_text())
    content["images"] = [image for image in content["images"] if image["file_name"] in NAMES]
    numbers = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in numbers]
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps(content))
    command = ["--model", str(convert("instance")), "--annotations", str(annotations)]
    command += ["--images", str(DEMO / "images"), "--output", str(tmp_path / "results")]
    assert tfdetect.cli.evaluate.main(command) == 0
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert {"bbox", "segm"} <= metrics.keys()


def mean_iou(found, truth, classes):
    """Detectron2's: over the classes that there are, in percent; 255 is unlabelled."""
    of_both = np.zeros([classes, classes])
    for ours, theirs in zip(found, truth, strict=True):
        np.add.at(of_both, (theirs[theirs < 255], ours[theirs < 255]), 1)
    own = np.diag(of_both)
    there = of_both.sum(1) > 0
    return 100 * np.mean((own / (of_both.sum(0) + of_both.sum(1) - own))[there])


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """Folders of masks and of their images, and the mIoU of what Detectron2 predicts."""
    folder, arrays = tmp_path_factory.mktemp("masks"), load_arrays("narrow_semantic")
    for name in ("masks", "images"):
        (folder / name).mkdir()
    predicted, truth = [], []
    for index, path in enumerate(map(Path, IMAGES)):
        predicted.append(arrays[f"argmax_{index}"].astype(int))
        labels = np.roll(predicted[index], 7, axis=1)
        labels[:9] = 255
        truth.append(labels)
        cv2.imwrite(str(folder / "masks" / f"{path.stem}.png"), labels.astype(np.uint8))
        shutil.copy(path, folder / "images")
    expected = mean_iou(predicted, truth, 5)
    assert 10 < expected < 95
    return folder / "masks", folder / "images", expected


# Of mIoU in percent: a ten-thousandth of the pixels may be of another class.
MIOU = 0.05


@pytest.mark.full
def test_evaluate_semantic(convert, masks, tmp_path):
    annotations, images, expected = masks
    command = ["--model", str(convert("semantic")), "--evaluate", str(annotations)]
    command += ["--images", str(images), "--batch-size", "2", "--output", str(tmp_path)]
    assert tfdetect.cli.predict.main(command) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["sem_seg"]
    assert found["mIoU"] == pytest.approx(expected, abs=MIOU)


@pytest.mark.full
def test_train_evaluates_semantic(convert, masks, tmp_path):
    """The model that it is given with --eval-only, and the same after a step of rate 0."""
    annotations, images, expected = masks
    options = {
        "DATASETS.TRAIN": "('masks',)",
        "DATASETS.TEST": "('masks',)",
        "DATALOADER.NUM_WORKERS": 0,
        "MODEL.WEIGHTS": convert("semantic"),
        "SEED": 1,
        "SOLVER.BASE_LR": 0.0,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.LOG_PERIOD": 1,
        "SOLVER.MAX_ITER": 1,
        "SOLVER.STEPS": "()",
        "SOLVER.WARMUP_ITERS": 0,
    }
    command = ["--config-file", write_config("narrow_semantic_training", tmp_path)]
    command += ["--register", "masks", annotations, images]
    for folder, arguments in (("evaluated", ["--eval-only"]), ("trained", [])):
        opts = options | {"OUTPUT_DIR": tmp_path / folder}
        words = [*command, *arguments, *(word for pair in opts.items() for word in pair)]
        assert tfdetect.cli.train.main([str(word) for word in words]) == 0
        written = tmp_path / folder / "inference" / "masks" / "metrics.json"
        found = json.loads(written.read_text())["sem_seg"]
        assert found["mIoU"] == pytest.approx(expected, abs=MIOU)
    lines = (tmp_path / "trained" / "metrics.json").read_text().splitlines()
    logged = {key: value for line in lines for key, value in json.loads(line).items()}
    assert logged["sem_seg/mIoU"] == pytest.approx(expected, abs=MIOU)
    assert logged["loss_sem_seg_point"] > 0


@pytest.mark.parametrize(
    ("kind", "ops"),
    [
        pytest.param("instance", "portable", marks=pytest.mark.full),
        pytest.param("instance", "native", marks=pytest.mark.full),
        pytest.param("implicit", "native", marks=pytest.mark.full),
        pytest.param("semantic", "native", marks=pytest.mark.full),
    ],
)
def test_saved_model(kind, ops, convert, tmp_path):
    """The two images in one request give the recorded masks or labels."""
    exported = export_savedmodel(convert(kind), tmp_path / "exported", ops=ops, max_batch=2)
    loaded = tf.saved_model.load(str(exported.path))
    contents = tf.constant([Path(path).read_bytes() for path in IMAGES])
    found = loaded.signatures["serving_default"](contents)
    records = []
    for index, path in enumerate(IMAGES):
        height, width = read_image(path).shape[:2]
        if kind == "semantic":
            labels = found["sem_seg"][index][:height, :width].numpy()
            assert np.mean(labels == load_arrays("narrow_semantic")[f"argmax_{index}"]) > 1 - 1e-4
            continue
        count = int(found["num_detections"][index])
        boxes = found["pred_boxes"][index][:count]
        masks = paste_masks(found["pred_masks"][index][:count], boxes, [height, width])
        records.append(
            {
                "file_name": Path(path).name,
                "height": height,
                "width": width,
                "pred_boxes": boxes.numpy(),
                "scores": found["scores"][index][:count].numpy(),
                "pred_classes": found["pred_classes"][index][:count].numpy(),
                "pred_masks": [encode_mask(mask) for mask in masks.numpy()],
            }
        )
    if records:
        assert_as_recorded(records, kind)


def test_inspect(tmp_path):
    """The model's parts are named, and no other model of the zoo is said to fit."""
    for kind, words in (
        ("instance", "PointRendMaskHead"),
        ("implicit", "ImplicitPointRendMaskHead"),
        ("semantic", "PointRendSemSegHead"),
    ):
        path = write_weights(kind, tmp_path / f"{kind}.pkl", old=kind == "instance")
        text = describe(path)
        assert words in text
        assert "none of the zoo fits" in text


def test_what_does_not_fit_is_named(tmp_path, capfd):
    """A damaged checkpoint: one line, status 2, and no half-written model."""
    arrays = state_dict(state_dicts()["narrow_instance"])
    del arrays["roi_heads.mask_head.point_head.fc2.weight"]
    name = "roi_heads.mask_head.coarse_head.prediction.weight"
    arrays[name] = arrays[name][:-1]
    arrays["roi_heads.mask_head.point_head.fc1.bias"][0] = np.nan
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": arrays}))
    command = ["--config-file", str(write_config("narrow_instance", tmp_path))]
    command += ["--weights", str(tmp_path / "model.pkl"), "--output", str(tmp_path / "model")]
    line = fails(capfd, convert_d2.command.main, *command)
    assert "does not fit the model" in line
    assert "missing roi_heads.mask_head.point_head.fc2.weight" in line
    assert f"shape of {name}" in line
    assert "NaN or infinity in roi_heads.mask_head.point_head.fc1.bias" in line
    assert not (tmp_path / "model").exists()


@pytest.mark.full
def test_one_step_of_training(convert, tmp_path):
    """By train.py, from a checkpoint with the names of old versions; what it saves predicts."""
    options = {
        "DATASETS.TRAIN": "('points_train',)",
        "DATASETS.TEST": "()",
        "DATALOADER.NUM_WORKERS": 0,
        "MODEL.WEIGHTS": write_weights("instance", tmp_path / "model.pkl", old=True),
        "OUTPUT_DIR": tmp_path / "run",
        "SEED": 1,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.LOG_PERIOD": 1,
        "SOLVER.MAX_ITER": 1,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.STEPS": "()",
    }
    command = ["--config-file", write_config("narrow_instance_training", tmp_path)]
    command += ["--register", "points_train", DEMO / "annotations.json", DEMO / "images"]
    command += [word for pair in options.items() for word in pair]
    assert tfdetect.cli.train.main([str(word) for word in command]) == 0
    (line,) = map(json.loads, (tmp_path / "run" / "metrics.json").read_text().splitlines())
    assert 0.1 < line["loss_mask"] < 10
    assert 0.1 < line["loss_mask_point"] < 10
    _, trained, _ = load_model(tmp_path / "run" / "model_final")
    _, before, _ = load_model(convert("instance"))
    values = {named.name: named.variable.numpy() for named in named_variables(before)}
    moved = [
        named.name
        for named in named_variables(trained)
        if not np.array_equal(named.variable, values[named.name])
    ]
    assert {name for name in values if "mask_head" in name} <= set(moved)
