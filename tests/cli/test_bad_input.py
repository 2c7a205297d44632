"""Input that cannot be used: one line that says which and what to do, status 2, nothing written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

import convert_d2.command
import tfdetect.cli.predict
from tests.support.commands import fails
from tests.support.paths import DEMO, ROOT
from tfdetect.cli.command import run_command

pytestmark = pytest.mark.usefixtures("shared_predictors")

CONFIG = DEMO / "joint_rcnn" / "config.yaml"
WEIGHTS = DEMO / "joint_rcnn" / "model_final.pkl"
IMAGE = DEMO / "images" / "000001.jpg"


def convert(capfd, folder, config=CONFIG, weights=WEIGHTS, output=None, more=()):
    """A conversion that must fail and leave no output."""
    output = output or folder / "model"
    before = sorted(folder.rglob("*"))
    line = fails(
        capfd,
        convert_d2.command.main,
        *("--config-file", config, "--weights", weights, "--output", output, *more),
    )
    assert sorted(folder.rglob("*")) == before
    return line


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickle_that_would_run_code(tmp_path, capfd):
    weights = tmp_path / "evil.pkl"
    weights.write_bytes(pickle.dumps({"model": {"a": Touch(tmp_path / "ran")}}))
    line = convert(capfd, tmp_path, weights=weights)
    assert "evil.pkl" in line
    assert "mkdir" in line


@pytest.mark.parametrize("share", [0.5, 0.999, 0.0])
def test_checkpoint_cut_off(tmp_path, capfd, share):
    content = WEIGHTS.read_bytes()
    weights = tmp_path / "half.pkl"
    weights.write_bytes(content[: int(len(content) * share)])
    assert "half.pkl" in convert(capfd, tmp_path, weights=weights)


def test_text_file(tmp_path, capfd):
    weights = tmp_path / "notes.pkl"
    weights.write_text("This is not a checkpoint.\n")
    assert "notes.pkl" in convert(capfd, tmp_path, weights=weights)


def test_missing_files(tmp_path, capfd):
    assert "none.pkl" in convert(capfd, tmp_path, weights=tmp_path / "none.pkl")
    assert "none.yaml" in convert(capfd, tmp_path, config=tmp_path / "none.yaml")
    assert "none.json" in convert(capfd, tmp_path, more=["--metadata", tmp_path / "none.json"])


def test_checkpoint_of_another_model(tmp_path, capfd):
    line = convert(capfd, tmp_path, more=["--opts", "MODEL.ROI_HEADS.NUM_CLASSES", "80"])
    assert "model_final.pkl" in line
    assert "roi_heads.box_predictor.cls_score.weight is [5, 128], not [81, 128]" in line
    line = convert(capfd, tmp_path, more=["--opts", "MODEL.MASK_ON", "False"])
    assert "unused roi_heads.mask_head" in line
    weights = tmp_path / "part.pkl"
    weights.write_bytes(pickle.dumps({"model": {"backbone.fpn_lateral2.bias": np.zeros(64)}}))
    assert "missing backbone" in convert(capfd, tmp_path, weights=weights)


def test_patterns_allow_what_they_name(tmp_path):
    model = pickle.loads(WEIGHTS.read_bytes())["model"]  # noqa: S301 (our own file)
    del model["roi_heads.mask_head.predictor.bias"]
    model["ema.decay"] = np.zeros(1, np.float32)
    weights = tmp_path / "changed.pkl"
    weights.write_bytes(pickle.dumps({"model": model}))
    command = ["--config-file", str(CONFIG), "--weights", str(weights)]
    command += ["--output", str(tmp_path / "model"), "--allow-missing", "*.predictor.bias"]
    assert convert_d2.command.main([*command, "--allow-unused", "ema.*"]) == 0
    metadata = json.loads((tmp_path / "model" / "metadata.json").read_text())
    assert metadata["counts"]["variables"] == 316
    assert metadata["counts"]["arrays"] == 317


def test_weights_that_are_not_finite(tmp_path, capfd):
    model = pickle.loads(WEIGHTS.read_bytes())["model"]  # noqa: S301 (our own file)
    model["backbone.fpn_lateral2.bias"] = np.full(64, np.nan, np.float32)
    weights = tmp_path / "diverged.pkl"
    weights.write_bytes(pickle.dumps({"model": model}))
    assert "NaN or infinity in backbone.fpn_lateral2.bias" in convert(
        capfd, tmp_path, weights=weights
    )


def test_yaml_with_a_python_tag(tmp_path, capfd):
    config = tmp_path / "evil.yaml"
    config.write_text(f"MODEL: !!python/object/apply:os.mkdir ['{tmp_path}/ran']\n")
    assert "evil.yaml" in convert(capfd, tmp_path, config=config)


def test_unknown_configuration_key(tmp_path, capfd):
    line = convert(capfd, tmp_path, more=["--opts", "MODEL.ROI_HEAD.NUM_CLASSES", "4"])
    assert "unknown key MODEL.ROI_HEAD.NUM_CLASSES; the closest" in line
    assert "MODEL.ROI_HEADS" in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.META_ARCHITECTURE", "MyRCNN"),
        ("MODEL.BACKBONE.NAME", "build_my_backbone"),
        ("MODEL.ROI_HEADS.NAME", "MyROIHeads"),
        ("MODEL.RESNETS.DEPTH", "77"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignRotated"),
        ("MODEL.RPN.IN_FEATURES", "['p9']"),
        ("MODEL.FPN.FUSE_TYPE", "product"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[[1], [2]]"),
        ("INPUT.FORMAT", "YUV"),
    ],
)
def test_part_that_is_not_supported(tmp_path, capfd, key, value):
    assert key in convert(capfd, tmp_path, more=["--opts", key, value])


def test_output_that_cannot_be_written(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    assert "file" in convert(capfd, tmp_path, output=tmp_path / "file")
    assert "file" in convert(capfd, tmp_path, output=tmp_path / "file" / "model")
    assert "/proc/tfdetect" in convert(capfd, tmp_path, output="/proc/tfdetect/model")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    assert "thesis.tex" in convert(capfd, tmp_path, output=tmp_path / "mine")


def test_metadata_of_another_data_set(tmp_path, capfd):
    annotations = tmp_path / "other.json"
    annotations.write_text(json.dumps({"categories": [{"id": 1, "name": "cat"}]}))
    line = convert(capfd, tmp_path, more=["--metadata", annotations])
    assert "other.json" in line
    assert "MODEL.ROI_HEADS.NUM_CLASSES is 4" in line


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "joint"
    command = ["--config-file", str(CONFIG), "--weights", str(WEIGHTS), "--output", str(folder)]
    assert convert_d2.command.main(command) == 0
    return folder


def predict(capfd, folder, *arguments):
    """A prediction that must fail and write nothing."""
    before = sorted(folder.rglob("*"))
    line = fails(capfd, tfdetect.cli.predict.main, *arguments)
    assert sorted(folder.rglob("*")) == before
    return line


def test_corrupt_image_alone(tmp_path, capfd, model_dir):
    image = tmp_path / "broken.jpg"
    image.write_bytes(IMAGE.read_bytes()[:5000])
    arguments = ["--model", model_dir, "--input", image, "--output", tmp_path / "out"]
    assert "broken.jpg" in predict(capfd, tmp_path, *arguments, "--json", tmp_path / "out.json")


def test_corrupt_image_among_others(tmp_path, capfd, model_dir):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    shutil.copy(IMAGE, tmp_path / "b.jpg")
    arguments = ["--model", model_dir, "--input", tmp_path, "--batch-size", "2"]
    arguments += ["--output", tmp_path / "out", "--json", tmp_path / "out.json"]
    with pytest.raises(SystemExit) as raised:
        run_command(lambda: tfdetect.cli.predict.main([str(item) for item in arguments]))
    assert raised.value.code == 1
    out, err = capfd.readouterr()
    assert "a.jpg" in err
    assert "b.jpg" in out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.jpg"]
    assert [r["file_name"] for r in json.loads((tmp_path / "out.json").read_text())] == ["b.jpg"]


def test_no_images(tmp_path, capfd, model_dir):
    (tmp_path / "empty").mkdir()
    for wanted in ("empty", "none.jpg", "*.tiff"):
        arguments = ["--model", model_dir, "--input", tmp_path / wanted, "--output", tmp_path / "o"]
        assert wanted in predict(capfd, tmp_path, *arguments)


def test_picture_that_would_overwrite_its_image(tmp_path, capfd, model_dir):
    shutil.copy(IMAGE, tmp_path / "b.jpg")
    arguments = ["--model", model_dir, "--input", tmp_path / "b.jpg", "--output", tmp_path]
    assert "overwrite" in predict(capfd, tmp_path, *arguments)


def test_model_directory(tmp_path, capfd, model_dir):
    arguments = ["--input", IMAGE, "--output", tmp_path / "out"]
    assert "none" in predict(capfd, tmp_path, "--model", tmp_path / "none", *arguments)
    damages = {
        "config.yaml": lambda content: content.replace(b"DEPTH: 50", b"DEPTH: 101"),
        "model.data-00000-of-00001": lambda content: content[: len(content) // 2],
        "model.index": lambda content: content[: len(content) // 2],
        "metadata.json": lambda content: b"[]",
    }
    for name, damage in damages.items():
        broken = tmp_path / f"broken-{name}"
        shutil.copytree(model_dir, broken)
        (broken / name).write_bytes(damage((broken / name).read_bytes()))
        line = predict(capfd, tmp_path, "--model", broken, *arguments)
        assert str(broken) in line
        (broken / name).unlink()
        assert name in predict(capfd, tmp_path, "--model", broken, *arguments)


def test_places_and_devices(tmp_path, capfd, model_dir):
    start = ["--model", model_dir, "--input", IMAGE]
    (tmp_path / "file").write_text("")
    assert "file" in predict(capfd, tmp_path, *start, "--output", tmp_path / "file" / "x")
    assert "/proc/x" in predict(capfd, tmp_path, *start, "--output", "/proc/x")
    line = predict(capfd, tmp_path, *start, "--output", tmp_path / "o", "--device", "npu")
    assert "npu" in line
    assert "cpu:0" in line


def test_evaluation(tmp_path, capfd, model_dir):
    start = ["--model", model_dir, "--output", tmp_path / "out", "--images", DEMO / "images"]
    (tmp_path / "text.json").write_text("nothing")
    assert "text.json" in predict(capfd, tmp_path, *start, "--evaluate", tmp_path / "text.json")
    start[-1] = tmp_path / "none"
    line = predict(capfd, tmp_path, *start, "--evaluate", DEMO / "annotations.json")
    assert "none" in line


@pytest.mark.parametrize("script", ["convert_d2.py", "predict.py"])
def test_as_a_process(tmp_path, script):
    """The scripts themselves, from another working directory."""
    arguments = {
        "convert_d2.py": ["--config-file", str(CONFIG), "--weights", "x.pkl", "--output", "m"],
        "predict.py": ["--model", "m", "--input", str(IMAGE), "--output", "o"],
    }[script]
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert not any(tmp_path.iterdir())
