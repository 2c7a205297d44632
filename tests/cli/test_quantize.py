"""`tfdetect quantize`: what it says, and what it rejects before it begins."""

from __future__ import annotations

import json
import shutil

import pytest

import convert_d2.export
from tests.support.commands import fails
from tests.support.paths import DEMO
from tfdetect.checkpoint.description import read_description
from tfdetect.cli import evaluate, quantize, train
from tfdetect.errors import InputError

IMAGES = DEMO / "images"


def refused(capfd, model, output, *more, images=IMAGES):
    """The line of a command that must fail and write nothing."""
    before = sorted(output.parent.rglob("*"))
    words = ["--model", model, "--images", images, "--output", output, *more]
    line = fails(capfd, quantize.main, *words)
    assert sorted(output.parent.rglob("*")) == before
    return line


def test_bad_input(model_dir, tmp_path, capfd):
    output = tmp_path / "int8"
    assert "no-model: is not a model directory" in refused(capfd, tmp_path / "no-model", output)
    line = refused(capfd, model_dir, output, images=tmp_path / "none")
    assert "none" in line
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(capfd, model_dir, output, images=tmp_path / "empty")
    assert "is the float32 model" in refused(capfd, model_dir, model_dir)
    line = refused(capfd, model_dir, output, "--annotations", tmp_path / "none.json")
    assert "none.json" in line
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "notes.txt").touch()
    assert "holds notes.txt" in refused(capfd, model_dir, tmp_path / "others")
    (tmp_path / "file").touch()
    assert "file" in refused(capfd, model_dir, tmp_path / "file" / "below")
    line = refused(capfd, model_dir, output, "--keep", "roi_heads.nobody.*")
    assert line.startswith("error: --keep roi_heads.nobody.*: is the name of no layer")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--percentile", "99"], "--percentile is for --method percentile"),
        (["--method", "percentile", "--percentile", "101"], "101 is not between 50 and 100"),
        (["--max-images", "0"], "0 is not at least 1"),
        (["--annotation-images", "there"], "--annotation-images is for --annotations"),
        (["--least-decibels", "nan"], "give a number"),
    ],
)
def test_options(words, message, capsys):
    with pytest.raises(SystemExit) as raised:
        quantize.main(["--model", "m", "--images", "i", "--output", "o", *words])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def quantized(model_dir, tmp_path):
    """What has the mark of a quantized model, and no more is looked at."""
    folder = shutil.copytree(model_dir, tmp_path / "quantized")
    (folder / "quantization.json").write_text("{}")
    return folder


def test_what_needs_the_float32_model(quantized, tmp_path, capfd):
    """A quantized model is not trained, quantized or given to Detectron2."""
    assert "is a quantized model" in refused(capfd, quantized, tmp_path / "again")
    line = fails(
        capfd,
        convert_d2.export.main,
        *("--model", quantized, "--output", tmp_path / "model.pkl"),
    )
    assert "convert_d2.export takes the float32 model" in line
    config = DEMO / "train.yaml"
    options = ["MODEL.WEIGHTS", quantized, "OUTPUT_DIR", tmp_path / "run"]
    line = fails(capfd, train.main, "--config-file", config, *options)
    assert "MODEL.WEIGHTS takes the float32 model" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.full
def test_command(model_dir, tmp_path, capfd):
    """The whole way, with a file that is not an image; then an evaluation of what it wrote."""
    folder = tmp_path / "images"
    folder.mkdir()
    content = json.loads((DEMO / "annotations.json").read_text())
    for image in content["images"][:2]:
        shutil.copy(IMAGES / image["file_name"], folder)
    (folder / "broken.jpg").write_bytes(b"no image")
    annotations = tmp_path / "annotations.json"
    content["images"] = content["images"][:2]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    annotations.write_text(json.dumps(content))
    output = tmp_path / "int8"
    words = ["--model", model_dir, "--images", folder, "--output", output]
    words += ["--annotations", annotations, "--method", "percentile", "--keep", "*keypoint*"]
    assert quantize.main([str(word) for word in words]) == 1
    printed, errors = capfd.readouterr()
    assert "broken.jpg" in errors
    table = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    assert table["backbone.bottom_up.res2.0.conv1"][1] == "int8"
    assert float(table["backbone.bottom_up.res2.0.conv1"][2]) > 20
    assert table["roi_heads.keypoint_head.conv_fcn1"][1:] == ["float32", "as", "--keep", "says"]
    assert table["bbox"][1].startswith("AP")
    assert sorted(path.name for path in output.iterdir()) == [
        *("config.yaml", "metadata.json", "quantization.json"),
        *("quantized.data-00000-of-00001", "quantized.index"),
    ]
    read_description(output)
    words = ["--model", output, "--annotations", annotations, "--images", folder]
    assert evaluate.main([str(word) for word in [*words, "--output", tmp_path / "results"]]) == 0
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["bbox"]["AP"] > 20
    with pytest.raises(InputError, match="not a model directory"):
        quantize.main(["--model", str(annotations), "--images", "i", "--output", "o"])
