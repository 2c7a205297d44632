"""Videos that are read and written: each codec, odd sizes, and what cannot be read or written."""

from __future__ import annotations

import os
import resource

import cv2
import numpy as np
import pytest

from tests.support.videos import frame, write_folder, write_truncated, write_video
from tfdetect.data.video import FolderFrames, VideoFrames, silent_opencv
from tfdetect.data.video_writer import CODECS, VideoWriter, check_video_output
from tfdetect.errors import InputError


def fail(error):
    raise error


@pytest.mark.parametrize("suffix", [*CODECS, ".MP4"])
def test_what_is_written_is_read(tmp_path, suffix):
    path = write_video(tmp_path / f"a{suffix}", 7, 12.5)
    frames = VideoFrames(path)
    assert (frames.count, frames.frames_per_second) == (7, 12.5)
    found = list(frames)
    assert [one.number for one in found] == list(range(7))
    np.testing.assert_allclose([one.seconds for one in found], np.arange(7) / 12.5, atol=1e-3)
    for one in found:
        assert one.file_name == path.name
        # The codecs are lossy; this is a few grey levels at the edges.
        assert np.abs(one.image.astype(float) - frame(one.number)).mean() < 4
    assert not frames.notes()
    assert frames.incomplete() is None
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("rate", [0.1, 23.976, 29.97, 59.94, 66.6666667, 120.0, 1000.0])
def test_frames_per_second(tmp_path, rate):
    frames = VideoFrames(write_video(tmp_path / "a.mp4", 3, rate))
    assert frames.frames_per_second == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize("suffix", CODECS)
def test_odd_sizes_lose_no_pixel(tmp_path, suffix):
    image = np.full((49, 65, 3), 90, np.uint8)
    image[-1] = image[:, -1] = 255
    with VideoWriter(tmp_path / f"a{suffix}", 10) as video:
        video.write(image)
        video.finish()
    (one,) = VideoFrames(tmp_path / f"a{suffix}")
    assert one.image.shape == (50, 66, 3)
    assert one.image[-1].mean() > 200
    assert one.image[:, -1].mean() > 200


def test_an_unfinished_video_is_not_there(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"before")
    with VideoWriter(tmp_path / "a.mp4", 10) as video:
        video.write(frame(0))
        assert len(os.listdir(tmp_path)) == 2
    assert (tmp_path / "a.mp4").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_frames_of_two_sizes_are_not_written(tmp_path):
    with VideoWriter(tmp_path / "a.avi", 10) as video:
        video.write(frame(0))
        with pytest.raises(InputError, match=r"a.avi: a frame has 90 x 80 pixels, the first 128 x"):
            video.write(frame(0, (80, 90)))


def test_a_full_disk_is_noticed(tmp_path):
    """OpenCV says nothing; a limit on the size of files is the same to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    random = np.random.default_rng(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with VideoWriter(tmp_path / "a.mp4", 10) as video:
            for _ in range(10):
                video.write(random.integers(0, 255, (96, 128, 3), np.uint8))
            with pytest.raises(InputError, match=r"a.mp4: OpenCV could not write all of it"):
                video.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.gif", "videos are written as .mp4, .m4v"),
        ("a", "videos are written as .mp4, .m4v"),
        ("file/a.mp4", "is a file; choose another place"),
        ("folder.mp4", "is a folder; give the name of a file"),
        ("\udcff.mp4", "names in UTF-8"),
    ],
)
def test_places_that_cannot_be_written(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match=message):
        check_video_output(tmp_path / name)


def test_an_encoder_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(CODECS, ".mp4", "avc1")
    with silent_opencv():
        available = cv2.VideoWriter(
            str(tmp_path / "x.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"avc1"), 10, (64, 64)
        ).isOpened()
    if available:
        pytest.skip("this OpenCV has an encoder of H.264")
    with pytest.raises(InputError, match=r"a.mp4: this OpenCV has no encoder of avc1"):
        check_video_output(tmp_path / "a.mp4")


def unreadable(folder, kind):
    path = folder / "a.mp4"
    if kind == "text":
        path.write_text("This is not a video. " * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "half an mp4":  # whose index is at the end
        content = write_video(path, 10).read_bytes()
        path.write_bytes(content[: len(content) * 3 // 4])
    elif kind == "no frames":
        path = folder / "a.avi"
        cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64)
        ).release()
        assert path.stat().st_size > 1000
    elif kind == "unknown codec":
        path = write_video(folder / "a.avi", 3)
        path.write_bytes(path.read_bytes().replace(b"MJPG", b"XXXX"))
    elif kind == "folder":
        path.mkdir()
    elif kind == "not UTF-8":
        path = folder / "\udcff.mp4"
        path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        *((kind, "no frame can be decoded") for kind in ("text", "empty", "half an mp4")),
        *((kind, "no frame can be decoded") for kind in ("no frames", "unknown codec")),
        ("missing", "no such file"),
        ("folder", "not a regular file"),
        ("not UTF-8", "names in UTF-8; rename it"),
    ],
)
def test_videos_that_cannot_be_read(tmp_path, kind, message):
    path = unreadable(tmp_path, kind)
    with pytest.raises(InputError, match=message) as raised:
        VideoFrames(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_truncated_video(tmp_path):
    frames = VideoFrames(write_truncated(tmp_path / "a.avi", 20))
    count = len(list(frames))
    assert 5 < count < 15
    assert f"a.avi: {count} frames can be read" in frames.incomplete()
    assert "truncated or damaged" in frames.incomplete()


def test_a_variable_frame_rate(tmp_path):
    """Matroska says how long it lasts, from which OpenCV makes 40 frames; there are 20."""
    av = pytest.importorskip("av")
    from fractions import Fraction

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        time = 0
        for number in range(20):
            picture = av.VideoFrame.from_ndarray(frame(number), format="bgr24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
            time += 33 if number % 5 else 200
        container.mux(stream.encode())
    frames = VideoFrames(path)
    found = list(frames)
    assert len(found) == 20
    assert frames.incomplete() is None
    assert found[1].seconds == pytest.approx(0.2)
    (note,) = frames.notes()
    assert "up to 0.200 seconds apart" in note


def test_a_video_that_does_not_know_its_rate(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 3)
    opened = cv2.VideoCapture

    class Capture:
        def __init__(self, *arguments):
            self.of_opencv = opened(*arguments)
            self.read, self.release = self.of_opencv.read, self.of_opencv.release

        def get(self, key):
            return float("nan") if key == cv2.CAP_PROP_FPS else self.of_opencv.get(key)

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    frames = VideoFrames(path)
    assert len(list(frames)) == 3
    assert frames.frames_per_second == 30
    assert "does not say its frames per second" in frames.notes()[0]


def test_a_folder_in_the_order_of_numbers(tmp_path):
    folder = write_folder(tmp_path / "frames", 12)
    (folder / "notes.txt").write_text("x")
    frames = FolderFrames(folder, fail)
    assert frames.count == 12
    for number, one in enumerate(frames):
        assert (one.number, one.file_name) == (number, f"{number}.png")
        assert one.seconds is None
        np.testing.assert_array_equal(one.image, frame(number))


def test_a_frame_that_cannot_be_read_has_a_number(tmp_path):
    folder = write_folder(tmp_path / "frames", 4)
    (folder / "1.png").write_bytes(b"x")
    errors = []
    assert [one.number for one in FolderFrames(folder, errors.append)] == [0, 2, 3]
    assert "1.png" in str(errors[0])
    with pytest.raises(InputError, match="no images in this folder"):
        FolderFrames(tmp_path, fail)
