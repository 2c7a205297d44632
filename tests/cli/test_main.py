"""The command `tfdetect`: this project's commands by name, and those of other packages."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys

import pytest

from tests.support.paths import DEMO, ROOT
from tfdetect.cli.main import GROUP, dispatch
from tfdetect.errors import InputError
from tfdetect.plugins import plugins

OURS = [
    "predict",
    "track",
    "train",
    "evaluate",
    "batch",
    "serve",
    "coco-results",
    "convert",
    "inspect",
    "dataset",
]
OURS += ["reproduce", "quantize", "export", "build-operators"]


def test_help_lists_the_commands(capsys):
    assert dispatch(["--help"]) == 0
    listed = capsys.readouterr().out.partition("commands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()][: len(OURS)] == OURS
    assert all(len(line.split()) > 2 for line in listed.splitlines())
    assert dispatch([]) == 2


@pytest.mark.parametrize("name", OURS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as raised:
        dispatch([name, "--help"])
    assert raised.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: tfdetect {name} ")


def test_no_such_command():
    with pytest.raises(InputError, match=r"tfdetect predct: .* predict is the nearest"):
        dispatch(["predct", "--model", "m"])
    with pytest.raises(InputError, match="tfdetect quux: there is no such command "):
        dispatch(["quux"])


def test_version(capsys):
    assert dispatch(["--version"]) == 0
    installed = importlib.metadata.version("tfdetect")
    assert capsys.readouterr().out.startswith(f"tfdetect {installed}, TensorFlow 2.")


def test_a_command_of_another_package(tmp_path):
    """Beside ours, whose names are taken."""
    (tmp_path / "theirs.py").write_text(
        '"""Count the words."""\n'
        "def main(words):\n    print('words:', *words)\n    return 3 + len(words)\n"
    )
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ncount = theirs:main\ntrain = theirs:main\n")

    def run(*words):
        code = "from tfdetect.cli.main import main; main()"
        command = [sys.executable, "-c", code, *words]
        paths = f"{tmp_path}:{ROOT}"
        return subprocess.run(
            command, env={"PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )

    done = run("count", "a", "b")
    assert (done.returncode, done.stdout, done.stderr) == (5, "words: a b\n", "")
    assert "Count the words." in run("--help").stdout
    assert run("train", "--help").stdout.startswith("usage: tfdetect train")


def test_a_checkout_knows_its_own_commands():
    """Whatever has been installed from it, and by whatever version."""
    assert list(plugins(GROUP))[: len(OURS)] == OURS
    for script, name in (("predict.py", "predict"), ("convert_d2.py", "convert")):
        done = subprocess.run(
            [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"usage: tfdetect {name} ")


@pytest.mark.usefixtures("shared_predictors")
def test_evaluate_is_predict_that_measures(model_dir, tmp_path, capsys):
    content = json.loads((DEMO / "annotations.json").read_text())
    content["images"] = content["images"][:2]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "images").mkdir()
    for image in content["images"]:
        shutil.copy(DEMO / "images" / image["file_name"], tmp_path / "images")

    def run(command, option):
        words = ["--model", model_dir, option, tmp_path / "annotations.json"]
        words += ["--images", tmp_path / "images", "--output", tmp_path / command]
        assert dispatch([command, *map(str, words)]) == 0
        return json.loads((tmp_path / command / "metrics.json").read_text())

    assert run("evaluate", "--annotations") == run("predict", "--evaluate")
    with pytest.raises(SystemExit) as raised:
        dispatch(["evaluate", "--model", str(model_dir), "--output", str(tmp_path)])
    assert raised.value.code == 2
    assert "--annotations" in capsys.readouterr().err
