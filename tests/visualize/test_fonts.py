"""Labels in any script that DejaVu has, in others with a font of one's own; odd names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import tfdetect.cli.predict
from tests.support.paths import DEMO
from tfdetect.cli.command import run_command
from tfdetect.detections import Detections
from tfdetect.errors import InputError
from tfdetect.visualize.fonts import load_font, missing_characters
from tfdetect.visualize.pictures import draw_detections, label_name

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
GREY = np.full([480, 640, 3], 128, np.uint8)


def drawn(name, **options):
    found = Detections(
        *(480, 640, np.array([[300, 200, 500, 400]], np.float32)),
        *(np.array([0.9], np.float32), np.array([0])),
    )
    return draw_detections(GREY, found, [name], **options)


@pytest.mark.parametrize(
    "name",
    [
        "Tür",
        "Straße",
        "é à ç ñ ø ł ğ ő",
        "Ελληνικά",
        "Кошка",
        "עברית",
        "ქართული",
        "→ ½ € ²",
        "tiếng",
    ],
)
def test_scripts_that_dejavu_has(name):
    assert missing_characters([name], None) == ""
    lacking = load_font(None, 20).getmask("\U0010ffff")
    for character in name.replace(" ", ""):
        assert bytes(load_font(None, 20).getmask(character)) != bytes(lacking)
    assert (drawn(name) != drawn("x")).any()


def test_a_font_of_ones_own():
    assert missing_characters(["cat 猫 犬"], None) == "犬猫"
    assert (drawn("cat", font=FONTS / "STIXGeneral.ttf") != drawn("cat")).any()
    np.testing.assert_array_equal(drawn("cat", font=FONTS / "DejaVuSans.ttf"), drawn("cat"))


@pytest.mark.parametrize("content", [None, b"", b"no font at all"])
def test_what_is_no_font(tmp_path, content):
    path = tmp_path / "font.ttf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"font\.ttf: cannot be read as a font"):
        drawn("cat", font=path)
    with pytest.raises(InputError, match="cannot be read as a font"):
        drawn("cat", font=tmp_path)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("traffic\nlight", "traffic light"),
        ("a\r\n\tb\x00\x1b[31m", "a b [31m"),
        ("lone \udcff", "lone"),
        ("\u2028", "0"),
        ("", "0"),
        ("  padded ", "padded"),
    ],
)
def test_names_are_shown_on_one_line(name, shown):
    assert label_name([name], 0) == shown
    np.testing.assert_array_equal(drawn(name), drawn(shown))


@pytest.mark.parametrize("pair", [(0, 3), (-1, 0), (5, 9), (0, 1, 2), ("0", "1"), (0.5, 1)])
def test_a_skeleton_of_other_keypoints(pair):
    found = Detections(
        *(480, 640, np.array([[300, 200, 500, 400]], np.float32)),
        *(np.array([0.9], np.float32), np.array([0])),
        keypoints=np.full([1, 3, 3], 0.9, np.float32),
    )
    with pytest.raises(InputError, match="keypoint_connections"):
        draw_detections(GREY, found, ["person"], [(0, 1), pair])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ["person"]}, "class_names has 1 names for the model's 4"),
        ({"class_names": []}, "class_names has 0 names for the model's 4"),
        ({"class_names": ["a", "b", "c", 4]}, "class_names is not a list of names"),
        ({"keypoint_names": ["nose"]}, "keypoint_names has 1 names for the model's 17"),
        ({"keypoint_names": "nose"}, "keypoint_names is not a list of names"),
        ({"keypoint_connections": [[0, 17]]}, "keypoint_connections has [0, 17]"),
        ({"keypoint_connections": [[-1, 2]]}, "keypoint_connections has [-1, 2]"),
        ({"keypoint_connections": [["nose", "ear"]]}, "keypoint_connections has ['nose', 'ear']"),
        ({"keypoint_connections": [3]}, "keypoint_connections has 3"),
    ],
)
def test_names_that_are_not_the_models(model_dir, tmp_path, capfd, change, message):
    """Said at the start, in one line that names the file."""
    model = shutil.copytree(model_dir, tmp_path / "model")
    metadata = json.loads((model / "metadata.json").read_text())
    (model / "metadata.json").write_text(json.dumps(metadata | change))
    arguments = ["--model", str(model), "--input", str(DEMO / "images" / "000001.jpg")]
    arguments += ["--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as raised:
        run_command(lambda: tfdetect.cli.predict.main(arguments))
    assert raised.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert str(model / "metadata.json") in line


@pytest.mark.usefixtures("shared_predictors")
def test_the_command(model_dir, tmp_path, capfd):
    """Names that a font lacks are said; a font of one's own is taken; a wrong one is one line."""
    model = shutil.copytree(model_dir, tmp_path / "model")
    metadata = json.loads((model / "metadata.json").read_text())
    metadata["class_names"] = ["Fußgänger", "猫", "two\nlines", "kreis"]
    (model / "metadata.json").write_text(json.dumps(metadata))
    arguments = ["--model", str(model), "--input", str(DEMO / "images" / "000001.jpg")]
    arguments += ["--output", str(tmp_path / "out")]
    assert tfdetect.cli.predict.main(arguments) == 0
    out, err = capfd.readouterr()
    assert "two lines" in out
    assert len(out.splitlines()) == 1
    (line,) = [line for line in err.splitlines() if line.startswith("note:")]
    assert "the label font lacks 猫, which class names use; give another with --font" in line
    with pytest.raises(InputError, match=r"metadata\.json: cannot be read as a font"):
        tfdetect.cli.predict.main([*arguments, "--font", str(model / "metadata.json")])
    assert tfdetect.cli.predict.main([*arguments, "--font", str(FONTS / "DejaVuSans.ttf")]) == 0
