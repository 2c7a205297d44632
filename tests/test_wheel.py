"""The wheel: what is in it, and that it works where there is no checkout."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import DEMO, ROOT

SOURCES = ("tfdetect", "convert_d2", "configs", "pyproject.toml", "README.md", "LICENSE")
SOURCES += ("entry_points.txt",)


def run(*words, **options):
    words = [str(word) for word in words]
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since setuptools leaves what it makes in the folder that it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        source, target = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=unwanted)
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    # With setuptools of this environment (extra "dev"): nothing is downloaded.
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, folder / "source")
    (path,) = folder.glob("*.whl")
    return path


def test_what_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    for package in ("tfdetect", "convert_d2"):
        files = [path for path in (ROOT / package).rglob("*.*") if path.is_file()]
        files = [path for path in files if "__pycache__" not in path.parts]
        assert {path.relative_to(ROOT).as_posix() for path in files} <= names
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
    assert {f"tfdetect/{name}" for name in configs} <= names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {
        "tfdetect",
        "convert_d2",
    }
    assert "License-Expression: Apache-2.0" in text
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The command `tfdetect` of an environment of its own, with this one's other packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    (packages,) = site.getsitepackages([str(folder / "env")])
    # Folders of packages, and not what else their .pth files name: the checkout is one of these.
    others = [path for path in sys.path if path.endswith("-packages")]
    Path(packages, "others.pth").write_text("".join(f"{path}\n" for path in others))
    pip = (sys.executable, "-m", "pip", "--python", python, "install")
    run(*pip, "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    place = folder / "place"
    place.mkdir()
    where = "import convert_d2, tfdetect; print(convert_d2.__file__, tfdetect.__file__)"
    found = run(python, "-c", where, cwd=place).stdout.split()
    assert all(path.startswith(packages) for path in found), found
    return python.with_name("tfdetect"), place


@pytest.mark.full
def test_works_without_a_checkout(installed):
    command, place = installed
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def tfdetect(*words):
        return run(command, *words, cwd=place, env=environment).stdout

    shutil.copytree(DEMO / "images", place / "images")
    for file in ("annotations.json", "joint_rcnn/config.yaml", "joint_rcnn/model_final.pkl"):
        shutil.copy(DEMO / file, place)
    assert tfdetect("--version").startswith("tfdetect ")
    assert "native operators: " in tfdetect("build-operators", "--optional")
    assert "GeneralizedRCNN" in tfdetect("inspect", "model_final.pkl")
    words = ("--config-file", "config.yaml", "--weights", "model_final.pkl")
    tfdetect("convert", *words, "--metadata", "annotations.json", "--output", "model")
    tfdetect("predict", "--model", "model", "--input", "images/000001.jpg", "--json", "found.json")
    (record,) = json.loads((place / "found.json").read_text())
    assert len(record["scores"]) > 0
    measured = ("--annotations", "annotations.json", "--images", "images", "--output", "results")
    tfdetect("evaluate", "--model", "model", *measured)
    metrics = json.loads((place / "results" / "metrics.json").read_text())
    assert metrics["bbox"]["AP"] > 50
    assert "serving_default" in tfdetect("export", "--model", "model", "--output", "servable")
    assert (place / "servable" / "1" / "saved_model.pb").is_file()
    # A model of the zoo by its name, made as small as the demo's.
    small = ("MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64")
    small += ("MODEL.ROI_HEADS.NUM_CLASSES", "4", "MODEL.WEIGHTS", "", "OUTPUT_DIR", "run")
    step = ("SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "SOLVER.IMS_PER_BATCH", "2")
    step += ("INPUT.MIN_SIZE_TRAIN", "(64,)", "DATALOADER.NUM_WORKERS", "0")
    tfdetect(
        *("train", "--config-file", "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x"),
        *("--register", "mine", "annotations.json", "images", "DATASETS.TRAIN", "('mine',)"),
        *("DATASETS.TEST", "()", *small, *step),
    )
    assert (place / "run" / "model_final" / "config.yaml").is_file()
