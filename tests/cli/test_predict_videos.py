"""tfdetect predict on videos: records by frame, pictures as videos, and what cannot be read."""

from __future__ import annotations

import json
import shutil

import pytest

import tfdetect
import tfdetect.cli.predict
from tests.support.videos import (
    FoundByColor,
    model_description,
    write_folder,
    write_truncated,
    write_video,
)
from tfdetect.data.video import VideoFrames


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """The command with a model that finds rectangles by their colour."""
    predictor = FoundByColor()
    monkeypatch.setattr(tfdetect.cli.predict, "load_predictor", lambda args, precision: predictor)
    model_description(tmp_path / "model")

    def run(*arguments):
        words = ["--model", tmp_path / "model", "--json", tmp_path / "found.json", *arguments]
        status = tfdetect.cli.predict.main([str(word) for word in words])
        return status, json.loads((tmp_path / "found.json").read_text())

    return run


def test_a_folder_of_images_and_videos(predict, tmp_path, capsys):
    folder = write_folder(tmp_path / "in", 2)
    write_video(folder / "a.avi", 3)
    write_video(folder / "b.mpeg4.mkv", 2)
    shutil.copy(folder / "a.avi", folder / "c.AVI")
    status, records = predict("--input", folder, "--output", tmp_path / "out")
    assert status == 0
    names = ["0.png", "1.png", *["a.avi"] * 3, *["b.mpeg4.mkv"] * 2, *["c.AVI"] * 3]
    assert [record["file_name"] for record in records] == names
    frames = [record.get("frame") for record in records]
    assert frames == [None, None, 0, 1, 2, 0, 1, 0, 1, 2]
    assert [record["seconds"] for record in records[2:5]] == pytest.approx([0, 0.1, 0.2])
    assert all(len(record["pred_masks"]) == 2 for record in records)
    out, err = capsys.readouterr()
    assert f"{folder / 'a.avi'}: 3 frames -> {tmp_path / 'out' / 'a.avi'}" in out.splitlines()
    assert err == ""
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["0.png", "1.png", "a.avi", "b.mpeg4.mkv", "c.AVI"]
    assert len(list(VideoFrames(tmp_path / "out" / "c.AVI"))) == 3


def test_what_cannot_be_read_is_left_out(predict, tmp_path, capsys):
    folder = write_folder(tmp_path / "in", 1)
    (folder / "text.mp4").write_text("text")
    write_truncated(folder / "half.avi", 20)
    status, records = predict("--input", folder, "--output", tmp_path / "out")
    assert status == 1
    assert {record["file_name"] for record in records} == {"0.png", "half.avi"}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "text.mp4: no frame can be decoded" in lines[0]
    assert "half.avi: " in lines[1]
    assert "truncated or damaged" in lines[1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "half.avi"]


def test_nothing_can_be_read(predict, tmp_path, capsys):
    for name in ("a.mp4", "b.avi"):
        (tmp_path / name).write_text("text")
    with pytest.raises(tfdetect.InputError, match=r"a.mp4: no frame can be decoded"):
        predict("--input", tmp_path / "a.mp4")
    with pytest.raises(tfdetect.InputError, match="none of 2 files is usable"):
        predict("--input", tmp_path / "a.mp4", tmp_path / "b.avi")
    assert not (tmp_path / "found.json").exists()


def test_another_kind_of_video_is_written_as_mp4(predict, tmp_path):
    write_video(tmp_path / "a.avi", 2).rename(tmp_path / "a.mpg")
    predict("--input", tmp_path / "a.mpg", "--output", tmp_path / "out")
    assert len(list(VideoFrames(tmp_path / "out" / "a.mp4"))) == 2


@pytest.mark.parametrize(
    ("option", "value"), [("--profile", "trace"), ("--proposals", "proposals.pkl")]
)
def test_options_that_are_for_images(predict, tmp_path, option, value):
    if option == "--proposals":
        path = tmp_path / "model" / "config.yaml"
        path.write_text(path.read_text() + "\n")
    source = write_video(tmp_path / "a.avi", 2)
    with pytest.raises(tfdetect.InputError, match=f"{option}: "):
        predict("--input", source, option, tmp_path / value)


def test_an_interruption_finishes_the_video(predict, tmp_path, monkeypatch):
    """The records are not written, as of images; the video has the frames until then."""
    source = write_video(tmp_path / "a.avi", 5)
    found = FoundByColor._found

    def interrupted(self, image):
        if sum(self.batches) == 4:
            raise KeyboardInterrupt
        return found(self, image)

    monkeypatch.setattr(FoundByColor, "_found", interrupted)
    with pytest.raises(KeyboardInterrupt) as raised:
        predict("--input", source, "--output", tmp_path / "out")
    assert str(raised.value) == (
        f"{tmp_path / 'out' / 'a.avi'} ends after 3 frames; 0 of 1 files are done; "
        f"{tmp_path / 'found.json'} is not written"
    )
    assert len(list(VideoFrames(tmp_path / "out" / "a.avi"))) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.avi", "model", "out"]


def test_a_video_is_not_overwritten(predict, tmp_path):
    source = write_video(tmp_path / "a.avi", 2)
    with pytest.raises(tfdetect.InputError, match=r"would overwrite .*a.avi"):
        predict("--input", source, "--output", tmp_path)
