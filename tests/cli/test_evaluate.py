"""predict.py --evaluate and train.py --eval-only: errors first, results first, skips counted."""

from __future__ import annotations

import json
import shutil

import pytest

import convert_d2.command
import tfdetect.cli.predict
import tfdetect.cli.train
from tests.support.paths import DEMO
from tfdetect.errors import InputError
from tfdetect.evaluation import formats

pytestmark = pytest.mark.usefixtures("shared_predictors")

CONFIG = DEMO / "joint_rcnn" / "config.yaml"


@pytest.fixture
def data(tmp_path):
    """The demo's first 3 images in a folder of their own, and what is said of them."""
    content = json.loads((DEMO / "annotations.json").read_text())
    content["images"] = content["images"][:3]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    (tmp_path / "images").mkdir()
    for image in content["images"]:
        shutil.copy(DEMO / "images" / image["file_name"], tmp_path / "images")
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return content


def evaluate(model_dir, tmp_path, content, *more):
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    arguments = ["--model", model_dir, "--evaluate", tmp_path / "annotations.json"]
    arguments += ["--images", tmp_path / "images", "--output", tmp_path / "out", *more]
    return tfdetect.cli.predict.main([str(argument) for argument in arguments])


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_what_cannot_be_used_is_counted(model_dir, tmp_path, data, capfd):
    names = [image["file_name"] for image in data["images"]]
    (tmp_path / "images" / names[0]).unlink()
    data["images"][1]["height"] += 1
    for entry in data["annotations"]:
        # Their masks are not those of the size that is wrong now.
        entry.pop("segmentation")
    assert evaluate(model_dir, tmp_path, data) == 1
    out, err = capfd.readouterr()
    assert "1 of 3 images are missing" in err
    assert f"{names[1]}: has " in err
    assert "evaluated on 1 of 3 images (2 skipped)" in out
    counts = metrics_of(tmp_path / "out")["counts"]
    assert (counts["images"], counts["images_skipped"]) == (1, 2)


def test_no_image_is_there(model_dir, tmp_path, data):
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="has none of the 3 images"):
        evaluate(model_dir, tmp_path, data)
    assert not (tmp_path / "out").exists()


def test_written_though_not_measured(model_dir, tmp_path, data, monkeypatch):
    def fail(*arguments, **options):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(formats.coco, "evaluate", fail)
    found = tmp_path / "found.json"
    with pytest.raises(
        InputError,
        match=r"cannot be evaluated \(ZeroDivisionError.*results are "
        r"in",
    ):
        evaluate(model_dir, tmp_path, data, "--json", found)
    assert len(json.loads(found.read_text())) == 3
    assert json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())


def test_without_annotations(model_dir, tmp_path, data, capfd):
    del data["annotations"]
    assert evaluate(model_dir, tmp_path, data) == 0
    assert "predicting without evaluation" in capfd.readouterr().out
    assert metrics_of(tmp_path / "out") == {}
    assert (tmp_path / "out" / "coco_instances_results.json").exists()


@pytest.mark.parametrize("case", ["area", "classes", "sigmas", "json", "output", "no images"])
def test_said_before_tensorflow_is_loaded(model_dir, tmp_path, data, monkeypatch, case):
    def too_late():
        raise AssertionError("TensorFlow is loaded before the error is found")

    monkeypatch.setattr(tfdetect.cli.model, "import_tensorflow", too_late)
    more = []
    if case == "area":
        data["annotations"][-1]["area"] = None
    elif case == "classes":
        data["categories"][0]["name"] = "unicorn"
    elif case == "sigmas":
        for entry in data["annotations"]:
            entry["keypoints"] = entry["keypoints"][:6]
    elif case == "json":
        more = ["--json", tmp_path / "images"]
    elif case == "output":
        (tmp_path / "out").write_text("a file")
    else:
        shutil.rmtree(tmp_path / "images")
    with pytest.raises(InputError):
        evaluate(model_dir, tmp_path, data, *more)


@pytest.mark.parametrize("name", ["folder", "file/x.json", "n" * 300 + ".json", "/proc/x.json"])
def test_json_that_cannot_be_written_is_said_first(model_dir, tmp_path, monkeypatch, name):
    def too_late():
        raise AssertionError("TensorFlow is loaded before the error is found")

    monkeypatch.setattr(tfdetect.cli.model, "import_tensorflow", too_late)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    arguments = ["--model", model_dir, "--input", DEMO / "images" / "000000.jpg"]
    arguments += ["--json", tmp_path / name]
    with pytest.raises(InputError, match=name.rpartition("/")[0] or name[:100]):
        tfdetect.cli.predict.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def rpn_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rpn") / "rpn"
    command = ["--config-file", CONFIG, "--weights", DEMO / "joint_rcnn" / "model_final.pkl"]
    command += ["--output", folder, "--allow-unused", "roi_heads.*"]
    command += ["--opts", "MODEL.META_ARCHITECTURE", "ProposalNetwork"]
    command += ["MODEL.MASK_ON", "False", "MODEL.KEYPOINT_ON", "False"]
    assert convert_d2.command.main([str(argument) for argument in command]) == 0
    return folder


def train_main(rpn_dir, tmp_path, name):
    arguments = ["--config-file", rpn_dir / "config.yaml", "--eval-only", "--register", name]
    arguments += [tmp_path / "annotations.json", tmp_path / "images"]
    keys = {
        "DATASETS.TEST": f"('{name}',)",
        "MODEL.WEIGHTS": rpn_dir,
        "MODEL.DEVICE": "cpu",
        "OUTPUT_DIR": tmp_path / "trained",
    }
    arguments += [word for pair in keys.items() for word in pair]
    return tfdetect.cli.train.main([str(argument) for argument in arguments])


def test_an_rpn_is_measured_by_its_recall(rpn_dir, tmp_path, data, capfd):
    assert evaluate(rpn_dir, tmp_path, data) == 0
    assert "ARm@100" in capfd.readouterr().out
    metrics = metrics_of(tmp_path / "out")
    assert list(metrics) == ["box_proposals"]
    recall = metrics["box_proposals"]
    assert 20 < recall["AR@100"] <= recall["AR@1000"] <= 100
    assert (tmp_path / "out" / "box_proposals.pkl").exists()
    assert train_main(rpn_dir, tmp_path, "evaluate_rpn") == 0
    again = metrics_of(tmp_path / "trained" / "inference" / "evaluate_rpn")
    # Norms are not folded there, so that a proposal may differ in the last bits.
    for key, value in recall.items():
        assert (again["box_proposals"][key] or 0) == pytest.approx(value or 0, abs=1)


def test_eval_only_goes_by_the_names_of_a_model_directory(model_dir, tmp_path, data, caplog):
    """As predict.py does: the same numbers with the categories in another order."""
    assert evaluate(model_dir, tmp_path, data) == 0
    expected = metrics_of(tmp_path / "out")["bbox"]
    for category in data["categories"]:
        category["id"] = 9 - category["id"]
    for entry in data["annotations"]:
        entry["category_id"] = 9 - entry["category_id"]
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    assert train_main(model_dir, tmp_path, "evaluate_order") == 0
    found = metrics_of(tmp_path / "trained" / "inference" / "evaluate_order")["bbox"]
    assert found["AP"] == pytest.approx(expected["AP"], abs=0.01)
    assert found["AP-circle"] == pytest.approx(expected["AP-circle"], abs=0.01)
