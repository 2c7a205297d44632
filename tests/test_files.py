"""Atomic writes: all or nothing, and an error that names the file."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tfdetect import files
from tfdetect.errors import InputError


def test_writes_and_replaces_making_folders(tmp_path):
    path = tmp_path / "a" / "b" / "x.json"
    files.write_json(path, {"x": 0.1})
    files.write_json(path, {"x": [1 / 3]})
    assert json.loads(path.read_text()) == {"x": [1 / 3]}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_text_is_utf8(tmp_path):
    files.write_text_atomically(tmp_path / "x.txt", "µ\n")
    assert (tmp_path / "x.txt").read_bytes() == "µ\n".encode()


def test_mode_follows_the_umask_and_then_stays(tmp_path):
    path = tmp_path / "x"
    old = os.umask(0o027)
    try:
        files.write_bytes_atomically(path, b"1")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    files.write_bytes_atomically(path, b"2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write_bytes_atomically(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"1"


def test_a_name_of_the_greatest_length(tmp_path):
    files.write_bytes_atomically(tmp_path / ("n" * 255), b"1")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"1"


@pytest.mark.parametrize("name", ["", "file/x", "n" * 256, "nul\0byte"])
def test_an_unwritable_place_is_named_and_nothing_is_left(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError) as info:
        files.write_bytes_atomically(tmp_path / name, b"x")
    assert str(tmp_path) in str(info.value)
    assert "\n" not in str(info.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_number_that_json_lacks_writes_nothing(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "x.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match="No space left"):
        files.write_bytes_atomically(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "a" / "model"
    for content in ("old", "new"):
        with files.new_folder(target) as folder:
            (folder / "x").write_text(content)
            assert not target.exists() or (target / "x").read_text() == "old"
    assert (target / "x").read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(target.parent.stat().st_mode)

    def fail():
        with files.new_folder(target) as folder:
            (folder / "x").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (target / "x").read_text() == "new"
    assert list(target.parent.iterdir()) == [target]
