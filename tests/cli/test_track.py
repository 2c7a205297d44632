"""tfdetect track: its outputs, what it rejects, and what is left after an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
import weakref

import cv2
import numpy as np
import pytest

import tfdetect
import tfdetect.cli.model
import tfdetect.cli.track
from tests.support.commands import fails
from tests.support.paths import DEMO, ROOT
from tests.support.videos import (
    FoundByColor,
    frame,
    model_description,
    write_folder,
    write_truncated,
    write_video,
)
from tfdetect.data.images import read_image
from tfdetect.data.video import VideoFrames
from tfdetect.data.video_writer import VideoWriter
from tfdetect.visualize.pictures import PALETTE


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A model that finds rectangles by their colour: its directory is tmp_path / "model"."""
    predictor = FoundByColor()
    monkeypatch.setattr(tfdetect.cli.track, "load_predictor", lambda args, precision: predictor)
    model_description(tmp_path / "model")
    return predictor


def track(folder, source, *arguments):
    """The command with all its outputs in `folder`; its status, records and MOT rows."""
    command = ["--model", folder / "model", "--input", source, "--output", folder / "out.mp4"]
    command += ["--json", folder / "out.json", "--mot", folder / "out.txt", *arguments]
    status = tfdetect.cli.track.main([str(word) for word in command])
    return status, json.loads((folder / "out.json").read_text()), rows(folder / "out.txt")


def rows(path):
    return [[float(number) for number in line.split(",")] for line in path.open()]


def test_the_outputs_of_a_video(stub, tmp_path, capsys):
    source = write_video(tmp_path / "in.avi", 8)
    status, records, lines = track(tmp_path, source)
    assert status == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{source}: 8 frames, 2 objects -> ")
    assert printed.err == ""

    assert [record["frame"] for record in records] == list(range(8))
    assert [record["seconds"] for record in records] == pytest.approx(np.arange(8) / 10)
    for number, record in enumerate(records):
        assert record["file_name"] == "in.avi"
        assert (record["ID"], record["ID_period"]) == ([0, 1], [number + 1] * 2)
        assert record["lost_frame_count"] == [0, 0]
        assert record["pred_classes"] == [0, 1]
        assert len(record["pred_masks"]) == 2
        red = [8 + 2 * number, 10, 34 + 2 * number, 40]
        np.testing.assert_allclose(record["pred_boxes"][0], red, atol=2)

    assert [line[:2] for line in lines] == [[n, i] for n in range(1, 9) for i in (1, 2)]
    boxes = np.array([box for record in records for box in record["pred_boxes"]])
    np.testing.assert_allclose([line[2:4] for line in lines], boxes[:, :2], atol=1e-3)
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose([line[4:6] for line in lines], sides, atol=1e-3)
    assert [line[6:] for line in lines] == [[0.9, -1, -1, -1], [0.75, -1, -1, -1]] * 8

    pictures = VideoFrames(tmp_path / "out.mp4")
    assert pictures.frames_per_second == 10
    assert len(list(pictures)) == 8


def test_the_colour_follows_the_id(stub, tmp_path, monkeypatch):
    """The red one is gone from the fourth frame on: the green one keeps the colour of id 1."""
    folder = write_folder(tmp_path / "frames", 6)
    for number in range(3, 6):
        image = read_image(folder / f"{number}.png")
        image[:, :90] = 90
        cv2.imwrite(str(folder / f"{number}.png"), image)
    pictures, write = [], VideoWriter.write
    monkeypatch.setattr(
        VideoWriter, "write", lambda self, image: (pictures.append(image), write(self, image))
    )
    _, records, _ = track(tmp_path, folder, "--fps", "5")
    assert [record["ID"] for record in records] == [[0, 1]] * 3 + [[1]] * 3
    assert "seconds" not in records[0]
    assert [record["file_name"] for record in records] == [f"{n}.png" for n in range(6)]
    colors = [PALETTE.by_idx(index).as_bgr() for index in range(3)]
    for record, picture in zip(records, pictures, strict=True):
        # Before the video's codec, which blurs colours.
        shown = [bool((picture == color).all(-1).any()) for color in colors]
        assert shown == [0 in record["ID"], 1 in record["ID"], False]
    video = VideoFrames(tmp_path / "out.mp4")
    assert video.frames_per_second == 5
    assert [one.image.shape for one in video] == [picture.shape for picture in pictures]


def test_lost_instances_are_in_the_json_alone(stub, tmp_path):
    folder = write_folder(tmp_path / "frames", 5)
    cv2.imwrite(str(folder / "3.png"), np.full((96, 128, 3), 90, np.uint8))
    _, records, lines = track(tmp_path, folder, "--opts", "TRACKER_HEADS.MAX_LOST_FRAME_COUNT", "2")
    assert records[3]["ID"] == [0, 1]
    assert records[3]["lost_frame_count"] == [1, 1]
    assert records[4]["ID"] == [0, 1]
    assert records[4]["ID_period"] == [4, 4]
    assert {line[0] for line in lines} == {1, 2, 3, 5}


@pytest.mark.parametrize("size", [1, 3, 100])
def test_batches(stub, tmp_path, size):
    source = write_video(tmp_path / "in.avi", 7)
    _, records, _ = track(tmp_path, source, "--batch-size", size)
    assert len(records) == 7
    assert stub.batches == {1: [1] * 7, 3: [3, 3, 1], 100: [7]}[size]


@pytest.mark.parametrize("name", ["VanillaHungarianBBoxIOUTracker", "Bytetrack", "bytetrack"])
def test_trackers(stub, tmp_path, name, capfd):
    source = write_video(tmp_path / "in.avi", 6)
    if name == "Bytetrack":
        with pytest.raises(tfdetect.InputError, match="--tracker: 'Bytetrack' is not supported"):
            track(tmp_path, source, "--tracker", name)
        return
    if name == "bytetrack":
        pytest.importorskip("trackers")
    _, records, _ = track(tmp_path, source, "--tracker", name)
    # ByteTrack gives ids from the second frame on.
    assert [record["ID"] for record in records[2:]] == [[0, 1]] * 4


def test_byte_track_needs_its_package(stub, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    source = write_video(tmp_path / "in.avi", 2)
    with pytest.raises(tfdetect.InputError, match=r"pip install 'tfdetect\[bytetrack\]'"):
        track(tmp_path, source, "--tracker", "bytetrack")


def test_threshold(stub, tmp_path):
    source = write_video(tmp_path / "in.avi", 3)
    _, records, _ = track(tmp_path, source, "--confidence-threshold", "0.8")
    assert [record["pred_classes"] for record in records] == [[0]] * 3


def test_keys_without_an_effect_are_said(stub, tmp_path, capsys):
    source = write_video(tmp_path / "in.avi", 2)
    track(tmp_path, source, "--opts", "TRACKER_HEADS.MAX_NUM_INSTANCES", "5")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: TRACKER_HEADS.MAX_NUM_INSTANCES: has no effect")


# In a folder with in.avi, a folder frames, a folder empty, notes.avi (text) and a model.
REJECTED = [
    (["--input", "notes.avi"], "notes.avi: no frame can be decoded"),
    (["--input", "none.avi"], "none.avi: no such file or folder"),
    (["--input", "empty"], "empty: no images in this folder"),
    (["--output", "out.gif"], "out.gif: videos are written as"),
    (["--output", "in.avi"], "in.avi: is --input, too"),
    (["--output", "notes.avi/out.mp4"], "is a file; choose another place"),
    (["--json", "frames"], "frames: is a folder; give the name of a file"),
    (["--json", "x", "--mot", "x"], "x: is --json, too"),
    (["--font", "notes.avi"], "notes.avi: cannot be read as a font"),
    (["--tracker", "SORT"], "--tracker: 'SORT' is not supported"),
    (["--model", "frames"], "frames: has no config.yaml"),
    (["--model", "proposals"], "proposals: needs proposals of each image"),
    (["--model", "rotated"], "rotated: has rotated boxes, which cannot be tracked"),
    (["--model", "semantic"], "semantic: gives no boxes"),
    (["--opts", "TRACKER_HEADS.TRACK_IOU_THRESHOLD", "high"], "TRACKER_HEADS.TRACK_IOU_THRESHOLD"),
    (["--opts", "TRACKER_HEADS.MAX_LOST", "3"], "unknown key TRACKER_HEADS.MAX_LOST"),
    (["--opts", "TRACKER_HEADS.VIDEO_WIDTH", "-1"], "TRACKER_HEADS.VIDEO_WIDTH: -1; give pixels"),
    (["--opts", "MODEL.RESNETS.DEPTH", "101"], "MODEL.RESNETS.DEPTH: the weights were trained"),
    (["--opts", "TRACKER_HEADS.VIDEO_WIDTH"], "TRACKER_HEADS.VIDEO_WIDTH has no value"),
]


@pytest.mark.parametrize(("words", "message"), REJECTED)
def test_what_is_rejected_before_the_model_is_loaded(tmp_path, monkeypatch, capfd, words, message):
    def too_late(*_):
        raise AssertionError("TensorFlow is loaded before the error is found")

    monkeypatch.setattr(tfdetect.cli.model, "import_tensorflow", too_late)
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "in.avi", 3)
    write_folder(tmp_path / "frames", 2)
    (tmp_path / "notes.avi").write_text("text")
    (tmp_path / "empty").mkdir()
    base = model_description(tmp_path / "model") / "config.yaml"
    for name, settings in (
        ("proposals", "{PROPOSAL_GENERATOR: {NAME: PrecomputedProposals}}"),
        ("rotated", "{ROI_HEADS: {NAME: RROIHeads}}"),
        ("semantic", "{META_ARCHITECTURE: SemanticSegmentor}"),
    ):
        other = model_description(tmp_path / name) / "config.yaml"
        other.write_text(f"_BASE_: {base}\nMODEL: {settings}\n")
    before = sorted(tmp_path.rglob("*"))
    given = {"--model": "model", "--input": "in.avi", "--output": "out.mp4"}
    given |= dict(zip(words[::2], words[1::2], strict=False)) if words[0] != "--opts" else {}
    command = [word for pair in given.items() for word in pair]
    command += words if words[0] == "--opts" else []
    assert message in fails(capfd, tfdetect.cli.track.main, *command)
    assert sorted(tmp_path.rglob("*")) == before


def test_frames_of_two_sizes(stub, tmp_path, capfd):
    """What was done before is written."""
    folder = write_folder(tmp_path / "frames", 4)
    cv2.imwrite(str(folder / "2.png"), frame(2, (100, 130)))
    with pytest.raises(
        tfdetect.InputError, match=r"frame 2: .*; what is written ends after 2 f"
    ) as raised:
        track(tmp_path, folder)
    assert "100 x 130 pixels, the one before 96 x 128" in str(raised.value)
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2
    assert len(rows(tmp_path / "out.txt")) == 4
    assert len(list(VideoFrames(tmp_path / "out.mp4"))) == 2


def test_images_that_cannot_be_read(stub, tmp_path, capsys):
    folder = write_folder(tmp_path / "frames", 4)
    (folder / "1.png").write_bytes(b"x")
    status, records, _ = track(tmp_path, folder)
    assert status == 1
    assert [record["frame"] for record in records] == [0, 2, 3]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "1.png" in line
    for path in folder.iterdir():
        path.write_bytes(b"x")
    (tmp_path / "out.mp4").unlink()
    with pytest.raises(tfdetect.InputError, match="none of 4 images is usable; nothing is written"):
        track(tmp_path, folder)
    assert not (tmp_path / "out.mp4").exists()


def test_a_truncated_video(stub, tmp_path, capfd):
    """All that can be read is tracked; FFmpeg itself prints nothing."""
    source = write_truncated(tmp_path / "in.avi", 20)
    status, records, _ = track(tmp_path, source)
    assert status == 1
    assert 5 < len(records) < 15
    assert len(list(VideoFrames(tmp_path / "out.mp4"))) == len(records)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {source}: {len(records)} frames can be read")


def test_ffmpeg_prints_nothing(tmp_path):
    """One line is said of an MP4 whose index is missing."""
    model_description(tmp_path / "model")
    content = write_video(tmp_path / "in.mp4", 5).read_bytes()
    (tmp_path / "in.mp4").write_bytes(content[: len(content) // 2])
    command = ["track", "--model", tmp_path / "model", "--input", tmp_path / "in.mp4"]
    words = [sys.executable, "-m", "tfdetect", *map(str, command), "--json", str(tmp_path / "x")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENCV_")}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'in.mp4'}: no frame can be decoded")


INTERRUPTED = """
import sys, time
import tfdetect.cli.track
from tests.support.videos import FoundByColor
from tfdetect.cli.command import run_command

class Slow(FoundByColor):
    def predict_batch(self, images, proposals=None):
        if sum(self.batches) == int(sys.argv[1]):
            print("ready", flush=True)
            time.sleep(60)
        return super().predict_batch(images)

tfdetect.cli.track.load_predictor = lambda args, precision: Slow()
run_command(lambda: tfdetect.cli.track.main(sys.argv[2:]))
"""


@pytest.mark.parametrize(("done", "number"), [(5, signal.SIGINT), (0, signal.SIGTERM)])
def test_an_interruption_finishes_what_was_done(tmp_path, done, number):
    model_description(tmp_path / "model")
    source = write_video(tmp_path / "in.mp4", 10)
    command = ["--model", tmp_path / "model", "--input", source, "--output", tmp_path / "out.avi"]
    command += ["--json", tmp_path / "out.json", "--mot", tmp_path / "out.txt"]
    words = [sys.executable, "-c", INTERRUPTED, str(done), *map(str, command)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT}
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    written = f"what is written ends after {done} frames" if done else "nothing is written"
    assert err.decode() == f"interrupted: {written}\n"
    outputs = sorted(path.name for path in tmp_path.iterdir() if path.name != "model")
    assert outputs == (["in.mp4", "out.avi", "out.json", "out.txt"] if done else ["in.mp4"])
    if done:
        assert len(json.loads((tmp_path / "out.json").read_text())) == done
        assert len(rows(tmp_path / "out.txt")) == 2 * done
        assert len(list(VideoFrames(tmp_path / "out.avi"))) == done


def test_memory_does_not_grow(stub, tmp_path, monkeypatch):
    """Neither masks nor records of past frames are kept."""
    alive: list[weakref.ref] = []
    sizes = []
    found = stub.predict_batch

    def counting(images, proposals=None):
        detections = found(images)
        assert sum(mask() is not None for mask in alive) <= 2
        alive.append(weakref.ref(detections[0].masks))
        sizes.append(tracemalloc.get_traced_memory()[0])
        return detections

    monkeypatch.setattr(stub, "predict_batch", counting)
    source = write_video(tmp_path / "in.mp4", 60)
    command = ["--model", tmp_path / "model", "--input", source, "--json", tmp_path / "out.json"]
    command += ["--mot", tmp_path / "out.txt", "--opts", "TRACKER_HEADS.MAX_LOST_FRAME_COUNT", "3"]
    tracemalloc.start()
    try:
        tfdetect.cli.track.main([str(word) for word in command])
    finally:
        tracemalloc.stop()
    assert len(sizes) == 60
    # A record of two objects takes about 1000 bytes as text, several times that in Python.
    assert sizes[55] - sizes[15] < 20_000


@pytest.mark.usefixtures("shared_predictors")
def test_a_model_through_the_command(model_dir, tmp_path, monkeypatch):
    """What is tracked is what the model finds in the frames, in their pixels."""
    image = cv2.imread(str(DEMO / "images" / "000056.jpg"))
    (tmp_path / "frames").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), np.roll(image, number, axis=1))
    loaded, load = [], tfdetect.cli.track.load_predictor
    monkeypatch.setattr(
        tfdetect.cli.track,
        "load_predictor",
        lambda args, precision: loaded.append(load(args, precision)) or loaded[0],
    )
    command = ["--model", model_dir, "--input", tmp_path / "frames", "--batch-size", 2]
    command += ["--output", tmp_path / "out.mp4", "--json", tmp_path / "out.json"]
    assert tfdetect.cli.track.main([str(word) for word in command]) == 0
    records = json.loads((tmp_path / "out.json").read_text())
    assert len(records) == 3
    tracker = tfdetect.build_tracker_head(tfdetect.load_config(model_dir / "config.yaml"))
    for record in records:
        detections = loaded[0](read_image(tmp_path / "frames" / record["file_name"]))
        tracks = tracker.update(detections.select(detections.scores >= 0.5))
        assert len(tracks) > 3
        assert record["ID"] == tracks.ids.tolist()
        assert record["pred_classes"] == tracks.detections.classes.tolist()
        # In batches of two, float rounding differs.
        np.testing.assert_allclose(record["pred_boxes"], tracks.detections.boxes, atol=1e-3)
        assert len(record["pred_keypoints"]) == len(tracks)
    assert len(list(VideoFrames(tmp_path / "out.mp4"))) == 3
