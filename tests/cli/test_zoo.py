"""Weights by name and by address, in the commands; `tfdetect reproduce`."""

from __future__ import annotations

import json

import pytest

import convert_d2.command
import convert_d2.inspection
import tfdetect.cli.reproduce
import tfdetect.cli.train
from tests.support.commands import fails
from tests.support.file_server import Answer, file_server
from tests.support.paths import DEMO
from tests.support.small_zoo import NAME, WEIGHTS, small_coco, use_caches, use_small_zoo
from tfdetect.evaluation.report import Evaluated

CONFIG = DEMO / "joint_rcnn" / "config.yaml"
AP = {"box": 50.0, "mask": 40.0, "keypoint": 30.0}


@pytest.fixture
def server(tmp_path, monkeypatch):
    use_caches(tmp_path, monkeypatch)
    with file_server() as found:
        yield found


@pytest.fixture
def address(tmp_path, server, monkeypatch):
    return use_small_zoo(tmp_path, server, monkeypatch, AP)


def convert(*arguments):
    return convert_d2.command.main([str(argument) for argument in arguments])


def test_convert_from_the_zoo(tmp_path, address, server, model_dir, capfd):
    assert convert("--zoo", NAME, "--output", tmp_path / "model") == 0
    assert "note:" not in capfd.readouterr().err
    metadata = json.loads((tmp_path / "model" / "metadata.json").read_text())
    expected = json.loads((model_dir / "metadata.json").read_text())
    assert metadata["source"]["sha256"] == expected["source"]["sha256"]
    assert metadata["source"]["file_name"] == address.rpartition("/")[2]
    assert convert("--zoo", f"{NAME}.yaml", "--output", tmp_path / "again") == 0
    assert len(server.requests) == 1


@pytest.mark.usefixtures("address")
def test_what_is_wrong_is_said_before_the_download(tmp_path, server, capfd):
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    output = ("--output", tmp_path / "model")
    for arguments, message in (
        (("--zoo", NAME, "--output", full), "holds x, which is not part of a model"),
        (("--zoo", NAME, *output, "--opts", "MODEL.ROI_HEAD.NAME", "x"), "MODEL.ROI_HEAD"),
        (("--zoo", "mask_rcnn_R_50_FPN_3", *output), "--zoo mask_rcnn_R_50_FPN_3: no such model"),
        (("--zoo", "../../x", *output), "--zoo ../../x: no such model in the zoo"),
        (("--config-file", CONFIG, "--weights", "s3://x/y", *output), "--weights: s3://x/y: s3://"),
    ):
        assert message in fails(capfd, convert_d2.command.main, *arguments)
    assert not server.requests


def test_a_model_without_published_weights(tmp_path, capfd):
    name = "COCO-Detection/fcos_R_50_FPN_1x"
    line = fails(capfd, convert_d2.command.main, "--zoo", name, "--output", tmp_path / "x")
    assert f"--zoo {name}: no weights of this model are published" in line


@pytest.mark.parametrize("more", [("--weights", "x.pkl"), ("--config-file", CONFIG)])
def test_options_that_contradict(tmp_path, capfd, more):
    with pytest.raises(SystemExit) as raised:
        convert("--zoo", NAME, "--output", tmp_path / "model", *more)
    assert raised.value.code == 2
    assert "--zoo names configuration and weights" in capfd.readouterr().err


def test_addresses_as_weights(tmp_path, server, capfd, caplog):
    address = server.add("/weights/model.pkl", WEIGHTS.read_bytes(), Answer(cut=500_000), Answer())
    options = ("--config-file", CONFIG, "--output", tmp_path / "model", "--weights", address)
    assert convert(*options) == 0
    assert f"{address}: its name has no digits of a hash" in caplog.text
    capfd.readouterr()
    assert convert_d2.inspection.main([address]) == 0
    assert "library:" in capfd.readouterr().out
    line = fails(capfd, convert_d2.inspection.main, f"{server.address}/none.pkl")
    assert "none.pkl: there is no such file on the server (404)" in line


def train(tmp_path, weights, *opts):
    annotations = (DEMO / "annotations.json", DEMO / "images")
    command = ["--config-file", CONFIG, "--register", "demo_data", *annotations]
    command += ["DATASETS.TRAIN", "('demo_data',)", "DATASETS.TEST", "()", "MODEL.WEIGHTS", weights]
    return [*command, "OUTPUT_DIR", tmp_path / "out", *opts]


@pytest.mark.usefixtures("address")
def test_training_downloads_last(tmp_path, server, capfd, monkeypatch):
    """And before TensorFlow is loaded: the command does not get there."""
    main = tfdetect.cli.train.main
    missing = "detectron2://no/such/model_final_abcdef.pkl"
    line = fails(capfd, main, *train(tmp_path, missing, "SOLVER.MAX_ITER", "x"))
    assert "SOLVER.MAX_ITER" in line
    assert "MODEL.WEIGHTS: catalog://x is not in" in fails(
        capfd, main, *train(tmp_path, "catalog://x")
    )
    assert not server.requests
    monkeypatch.setattr(tfdetect.cli.train, "import_tensorflow", pytest.fail)
    line = fails(capfd, main, *train(tmp_path, missing))
    assert f"MODEL.WEIGHTS: {missing}: there is no such file on the server (404)" in line


def reproduce(tmp_path, coco, *more):
    words = [NAME, "--coco", coco, "--output", tmp_path / "out", *more]
    return tfdetect.cli.reproduce.main([str(word) for word in words])


@pytest.mark.full
@pytest.mark.usefixtures("address", "shared_predictors")
def test_reproduce(tmp_path, monkeypatch, server, capfd):
    coco = small_coco(tmp_path / "coco", 2)
    assert reproduce(tmp_path, coco) == 1
    out = capfd.readouterr().out
    content = json.loads((tmp_path / "out" / "reproduced.json").read_text())
    measured = {name: values["measured"] for name, values in content["metrics"].items()}
    (row,) = (line for line in out.splitlines() if line.startswith("mask "))
    expected = "40.00", f"{measured['mask']:.2f}", f"{measured['mask'] - 40:.2f}"
    assert tuple(row.split()[1:]) == expected
    metrics = json.loads((tmp_path / "out" / "results" / "metrics.json").read_text())
    assert measured["box"] == metrics["bbox"]["AP"]
    use_small_zoo(tmp_path / "other", server, monkeypatch, {"box": measured["box"] + 0.09})
    assert reproduce(tmp_path, coco) == 0


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize(
    ("found", "count", "status"),
    [
        ({"bbox": {"AP": 50.04}, "segm": {"AP": 39.9}, "keypoints": {"AP": 30.1}}, 2, 0),
        ({"bbox": {"AP": 50.04}, "segm": {"AP": 39.8}, "keypoints": {"AP": 30.1}}, 2, 1),
        ({"bbox": {"AP": 50.04}, "segm": {"AP": 39.9}, "keypoints": {"AP": 30.1}}, 1, 1),
        ({"bbox": {"AP": 50.04}, "segm": {"AP": 39.9}}, 2, 1),
    ],
)
def test_what_the_status_of_reproduce_says(tmp_path, monkeypatch, capfd, found, count, status):
    def measure(run, predictor, output, *, batch_size):
        run.measured += range(count)
        return Evaluated(found, {})

    monkeypatch.setattr(tfdetect.cli.reproduce, "measure", measure)
    monkeypatch.setattr("tfdetect.inference.predictor.Predictor", lambda *_: None)
    assert reproduce(tmp_path, small_coco(tmp_path / "coco", 2)) == status
    content = json.loads((tmp_path / "out" / "reproduced.json").read_text())
    assert content["model"] == NAME
    assert content["metrics"]["box"] == {"published": 50.0, "measured": 50.04}
    assert content["metrics"]["keypoint"]["measured"] == found.get("keypoints", {}).get("AP")
    out, err = capfd.readouterr()
    assert "\nbox" in out
    assert ("1 of 2 images were missing" in err) == (count == 1)


@pytest.mark.usefixtures("address")
def test_what_reproduce_says_before_the_download(tmp_path, server, capfd):
    main = tfdetect.cli.reproduce.main
    coco = small_coco(tmp_path / "coco", 1)
    out = ("--output", tmp_path / "out")
    for arguments, message in (
        (("mask_rcnn", *out), "NAME mask_rcnn: no such model"),
        ((NAME, "--coco", tmp_path / "none", *out), f"--coco {tmp_path / 'none'}: is not a folder"),
        ((NAME, "--coco", DEMO, *out), f"--coco {DEMO}: lacks annotations/instances_val2017.json"),
        ((NAME, "--coco", coco, "--output", coco / "annotations" / "instances_val2017.json"), ""),
    ):
        assert message in fails(capfd, main, *arguments)
    (coco / "annotations" / "instances_val2017.json").write_text("{")
    assert "instances_val2017.json" in fails(capfd, main, NAME, "--coco", coco, *out)
    assert not server.requests
