"""Images of a data set are located by name, and missing ones are reported before any is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfdetect.data.image_files import count_missing, image_path, missing_files


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.jpg").touch()
    (tmp_path / "inner" / "b.jpg").touch()
    return tmp_path


def test_names(folder):
    assert image_path(folder, "a.jpg") == folder / "a.jpg"
    assert image_path(folder, "inner/b.jpg") == folder / "inner" / "b.jpg"
    assert image_path(folder, "inner\\b.jpg") == folder / "inner" / "b.jpg"
    assert image_path(folder, str(folder / "a.jpg")) == folder / "a.jpg"
    (folder / "odd\\name.jpg").touch()
    assert image_path(folder, "odd\\name.jpg") == folder / "odd\\name.jpg"
    # What is not there keeps the name that the file gives it.
    assert image_path(folder, "none\\c.jpg") == folder / "none\\c.jpg"


def test_missing(folder):
    (folder / "dangling.jpg").symlink_to(folder / "nothing")
    (folder / "linked.jpg").symlink_to(folder / "a.jpg")
    names = ["a.jpg", "linked.jpg", "inner/b.jpg", "gone.jpg", "inner", "dangling.jpg"]
    names += ["none/c.jpg", "x" * 300, "a.jpg/d.jpg"]
    missing = missing_files(folder / name for name in names)
    assert [str(path.relative_to(folder)) for path in missing] == names[3:]


def test_count():
    assert count_missing([Path("x.jpg")], 4) == "1 of 4 images is missing, such as x.jpg"
    assert count_missing([Path("x"), Path("y")], 2) == "2 of 2 images are missing, such as x"
