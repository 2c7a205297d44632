"""What predict.py takes for its images: equal names, what is skipped, floating point."""

from __future__ import annotations

import json
import os
import shutil

import cv2
import numpy as np
import pytest

import tfdetect.cli.predict
from tests.support.paths import DEMO
from tfdetect.cli.predict import _picture_paths, _record_names
from tfdetect.data.images import describe_passed_over, find_images, read_image
from tfdetect.errors import InputError

pytestmark = pytest.mark.usefixtures("shared_predictors")

IMAGE = DEMO / "images" / "000001.jpg"


def test_equal_names_are_kept_apart(model_dir, tmp_path):
    folders = [tmp_path / "in" / name for name in ("a", "b", "a/c")]
    for index, folder in enumerate(folders):
        folder.mkdir(parents=True)
        shutil.copy(DEMO / "images" / f"{index:06}.jpg", folder / "x.jpg")
    arguments = ["--model", str(model_dir), "--input", *map(str, folders)]
    arguments += ["--json", str(tmp_path / "found.json"), "--output", str(tmp_path / "out")]
    assert tfdetect.cli.predict.main(arguments) == 0
    records = json.loads((tmp_path / "found.json").read_text())
    assert [record["file_name"] for record in records] == ["a/x.jpg", "b/x.jpg", "a/c/x.jpg"]
    sizes = [read_image(folder / "x.jpg").shape[:2] for folder in folders]
    assert [(record["height"], record["width"]) for record in records] == sizes
    pictures = _picture_paths([folder / "x.jpg" for folder in folders], tmp_path / "out")
    assert sorted(pictures) == sorted((tmp_path / "out").iterdir())


def test_names_in_the_json(tmp_path):
    paths = [tmp_path / "a" / "x.jpg", tmp_path / "b" / "y.jpg"]
    assert _record_names(paths) == ["x.jpg", "y.jpg"]
    assert _record_names([*paths, tmp_path / "x.jpg"]) == ["a/x.jpg", "b/y.jpg", "x.jpg"]
    assert _record_names(paths[:1]) == ["x.jpg"]
    odd = tmp_path / os.fsdecode(b"\xff.jpg")
    assert _record_names([odd]) == ["\udcff.jpg"]


@pytest.fixture
def folder(tmp_path):
    shutil.copy(IMAGE, tmp_path / "image.jpg")
    for name in ("a.heic", "b.HEIC", "notes.txt", ".hidden.jpg", "README"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path


def test_what_is_passed_over_is_counted(folder):
    others = []
    assert find_images([str(folder)], others) == [folder / "image.jpg"]
    said = describe_passed_over(others)
    for part in (
        "2 .heic files (a.heic, ...)",
        "1 .txt file (notes.txt)",
        "1 hidden file (.hidden.jpg)",
        "1 file without a suffix (README)",
        "1 folder (folder.jpg)",
        "1 dangling link (dangling.jpg)",
        "1 special file (pipe.png)",
    ):
        assert part in said.replace("b.HEIC, ...", "a.heic, ..."), said
    assert len(others) == 8
    assert describe_passed_over([]) == ""
    globbed = []
    assert find_images([str(folder / "*.*")], globbed) == [folder / "image.jpg"]
    assert "1 dangling link (dangling.jpg)" in describe_passed_over(globbed)
    # What is named as well is not skipped.
    named = []
    find_images([str(folder), str(folder / "notes.txt")], named)
    assert folder / "notes.txt" not in named
    (folder / "image.jpg").unlink()
    with pytest.raises(InputError, match=r"no images in this folder, but .*2 \.heic files"):
        find_images([str(folder)])


def test_the_count_is_printed(model_dir, folder, capfd):
    arguments = ["--model", str(model_dir), "--input", str(folder)]
    assert tfdetect.cli.predict.main([*arguments, "--json", str(folder / "out.json")]) == 0
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "skipped" in line]
    assert line.startswith("note: skipped ")
    assert "2 .heic files" in line


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 255])
def test_floating_point_is_refused(tmp_path, channels, scale):
    """Detectron2 cuts grey ones off to 0 to 255, and pixels from 0 to 1 are black there."""
    values = np.linspace(0, scale, 12 * channels, dtype=np.float32).reshape(3, 4, channels)
    cv2.imwrite(str(tmp_path / "float.tif"), values)
    with pytest.raises(InputError, match=r"float.tif: .*convert the image to 8 bits"):
        read_image(tmp_path / "float.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_deep_grey_is_cut_off_at_255(tmp_path, suffix):
    values = np.array([[0, 1, 254, 255], [256, 1000, 40000, 65535]], np.uint16)
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), values)
    expected = np.minimum(values, 255)
    np.testing.assert_array_equal(read_image(path), np.stack([expected] * 3, -1))
