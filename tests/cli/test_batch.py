"""`tfdetect batch` in plain processes: results, errors in rows, shards, and continuing a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_codec

import tfdetect.cli.batch
from tests.support.batch import QuickPredictor, read_rows
from tests.support.commands import fails
from tests.support.paths import DEMO, ROOT
from tests.support.predictors import shared_predictor
from tfdetect.cli.signals import Interrupted
from tfdetect.data.images import read_image

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq


@pytest.fixture
def quick(model_dir, monkeypatch):
    """Runs use a predictor that needs no network."""
    predictor = QuickPredictor(model_dir)
    monkeypatch.setattr("tfdetect.cli.batch.load_predictor", lambda *_: predictor)
    return predictor


@pytest.fixture
def images(tmp_path):
    """Ten images, 10 to 19 pixels wide in the order of their names."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(10):
        cv2.imwrite(str(folder / f"{index}.png"), np.zeros([8, 10 + index, 3], np.uint8))
    return folder


def batch(model_dir, *words):
    return tfdetect.cli.batch.main(["--model", str(model_dir), *map(str, words)])


def test_what_the_model_finds(model_dir, tmp_path, monkeypatch):
    """From files and from bytes: what the Predictor gives, masks as COCO's RLE."""
    files = sorted((DEMO / "images").glob("*.jpg"))[:2]
    contents = pa.table({"image": [{"bytes": file.read_bytes(), "path": None} for file in files]})
    pq.write_table(contents, tmp_path / "images.parquet")
    predictor = shared_predictor(model_dir)
    monkeypatch.setattr("tfdetect.cli.batch.load_predictor", lambda *_: predictor)
    inputs = [*files, tmp_path / "images.parquet"]
    assert batch(model_dir, "--input", *inputs, "--output", tmp_path / "out") == 0
    rows = read_rows(tmp_path / "out")
    names = [*map(str, files), *(f"{tmp_path}/images.parquet[{i}]" for i in range(2))]
    assert [row["file_name"] for row in rows] == names
    for row, file in zip(rows, files * 2, strict=True):
        found = predictor(read_image(file))
        assert row["error"] is None
        assert len(found) > 0
        assert (row["height"], row["width"]) == (found.height, found.width)
        np.testing.assert_array_equal(np.array(row["pred_boxes"], np.float32), found.boxes)
        np.testing.assert_array_equal(np.array(row["scores"], np.float32), found.scores)
        np.testing.assert_array_equal(row["pred_classes"], found.classes)
        np.testing.assert_array_equal(np.array(row["pred_keypoints"], np.float32), found.keypoints)
        for rle, mask in zip(row["pred_masks"], found.masks, strict=True):
            np.testing.assert_array_equal(mask_codec.decode(rle), mask)


def test_columns(model_dir, quick, images, tmp_path):
    assert batch(model_dir, "--input", images, "--output", tmp_path / "out") == 0
    (path,) = (tmp_path / "out").glob("*.parquet")
    assert path.name == "part-0000000000-0000000010.parquet"
    schema = pq.read_schema(path)
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "image_index": "int64",
        "file_name": "string",
        "height": "int32",
        "width": "int32",
        "pred_boxes": "list<element: list<element: float>>",
        "scores": "list<element: float>",
        "pred_classes": "list<element: int32>",
        "pred_masks": "list<element: struct<size: list<element: int32>, counts: string>>",
        "pred_keypoints": "list<element: list<element: list<element: float>>>",
        "error": "string",
    }
    metadata = json.loads(schema.metadata[b"tfdetect"])
    assert metadata["class_names"] == quick.class_names
    assert (metadata["box_extent"], metadata["keypoint_offset"]) == (0.0, 0.5)


def test_images_that_cannot_be_used(model_dir, quick, images, tmp_path, capsys):
    """Each has its error in its row; the run goes on."""
    content = (images / "5.png").read_bytes()
    (images / "empty.png").touch()
    (images / "truncated.png").write_bytes(content[:40])
    (images / "text.png").write_text("not an image")
    (images / "\udcff.png").write_bytes(content)
    cv2.imwrite(str(images / "float.tiff"), np.zeros([4, 4], np.float32))
    (images / "folder.png").mkdir()
    os.mkfifo(images / "pipe.png")
    names = ["empty.png", "missing.png", "truncated.png", "text.png", "float.tiff", "folder.png"]
    names += ["pipe.png", "\udcff.png", "5.png"]
    listed = b"\xef\xbb\xbf" + b"\r\n\n".join(os.fsencode(images / name) for name in names)
    (tmp_path / "list.txt").write_bytes(listed)
    rows_of_bytes = [b"", content[:40], b"text", None, content]
    pq.write_table(
        pa.table({"bytes": rows_of_bytes, "path": ["a", None, "c", None, "e"]}),
        tmp_path / "some.pq",
    )
    inputs = [tmp_path / "list.txt", tmp_path / "some.pq"]
    assert batch(model_dir, "--input", *inputs, "--output", tmp_path / "out") == 0
    assert "14 images, 11 with an error" in capsys.readouterr().out
    rows = read_rows(tmp_path / "out")
    for row, name in zip(rows[:7], names, strict=False):
        assert str(images / name) in row["error"]
        assert row["scores"] is None
    assert [row["error"] for row in rows[7:9]] == [None, None]
    assert rows[7]["file_name"] == f"{images}/\\xff.png"
    assert rows[9]["error"] == "a: the file is empty, replace the image"
    assert rows[10]["error"].startswith(f"{tmp_path}/some.pq[1]: ")
    assert rows[12]["error"] == f"{tmp_path}/some.pq[3]: has no image and no path"
    assert rows[13]["file_name"] == "e"
    assert rows[13]["scores"] == [np.float32(0.015)]


def test_no_usable_image_is_status_1(model_dir, quick, images, tmp_path, capsys):
    (images / "0.png").write_text("no image")
    words = ["--input", images / "0.png", "--output", tmp_path / "out"]
    assert batch(model_dir, *words) == 1
    assert "no image could be used" in capsys.readouterr().err


def test_what_fails_in_a_batch_fails_alone(model_dir, quick, images, tmp_path):
    quick.failing = {13: MemoryError("18 GB"), 16: tfdetect.cli.batch.InputError("too narrow")}
    words = ["--batch-size", 4, "--input", images, "--output", tmp_path / "out"]
    assert batch(model_dir, *words) == 0
    errors = {row["width"] or row["file_name"][-5]: row["error"] for row in read_rows(words[-1])}
    assert errors["3"] == "MemoryError: 18 GB"
    assert errors["6"] == "InputError: too narrow"
    assert sorted(quick.widths) == [10, 11, 12, 14, 15, 17, 18, 19]


def test_an_interrupted_run_is_continued(model_dir, quick, images, tmp_path, capsys):
    words = ["--images-per-file", 4, "--input", images, "--output", tmp_path / "out"]
    quick.failing = {17: Interrupted(signal.SIGTERM)}
    with pytest.raises(Interrupted, match="continue with --resume"):
        batch(model_dir, *words)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "part-0000000000-0000000004.parquet",
        "part-0000000004-0000000007.parquet",
        "run.json",
    ]
    line = fails(capsys, tfdetect.cli.batch.main, "--model", model_dir, *words)
    assert "continue it with --resume" in line
    quick.failing = {}
    assert batch(model_dir, *words, "--resume") == 0
    assert quick.widths == list(range(10, 20))  # nothing lost, nothing twice
    assert [row["width"] for row in read_rows(words[-1])] == quick.widths
    assert batch(model_dir, *words, "--resume") == 0
    assert "nothing is left" in capsys.readouterr().out
    assert len(quick.widths) == 10


def test_shards_share_a_folder(model_dir, quick, images, tmp_path):
    words = ["--images-per-file", 2, "--input", images, "--output", tmp_path / "out"]
    for shard in ("2/3", "1/3", "3/3"):
        assert batch(model_dir, *words, "--shard", shard) == 0
    assert [row["width"] for row in read_rows(words[-1])] == list(range(10, 20))
    assert sorted(quick.widths) == list(range(10, 20))
    # One file is missing: the rest, in any process.
    done = tmp_path / "out" / "part-0000000002-0000000004.parquet"
    done.unlink()
    assert batch(model_dir, *words, "--resume") == 0
    assert sorted(quick.widths) == sorted([*range(10, 20), 12, 13])


def test_more_shards_than_files(model_dir, quick, images, tmp_path, capsys):
    words = ["--input", images, "--output", tmp_path / "out", "--shard", "2/2"]
    assert batch(model_dir, *words) == 0
    assert "nothing is left to predict" in capsys.readouterr().out


def test_rows_of_several_row_groups(model_dir, quick, images, tmp_path):
    paths = [str(images / f"{index}.png") for index in range(10)]
    pq.write_table(pa.table({"path": paths}), tmp_path / "a.parquet", row_group_size=3)
    words = ["--images-per-file", 4, "--input", tmp_path / "a.parquet", images / "3.png"]
    assert batch(model_dir, *words, "--output", tmp_path / "out") == 0
    assert [row["width"] for row in read_rows(tmp_path / "out")] == [*range(10, 20), 13]


def test_an_image_that_ends_the_process_twice(model_dir, quick, images, tmp_path):
    """As the system's out-of-memory killer does: it is left out, and said so in its row."""
    words = ["--input", images, "--output", tmp_path / "out", "--batch-size", 2]
    journal = tmp_path / "out" / ".running-0000000000-0000000010.json"
    journal.parent.mkdir()

    def left_behind(begun, deaths):
        journal.write_text(json.dumps({"begun": begun, "deaths": deaths}))
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "out", tmp_path / "copy")
        copied = [*words[:3], tmp_path / "copy", *words[4:]]
        assert batch(model_dir, *copied) == 0
        assert not (tmp_path / "copy" / journal.name).exists()
        return [row["file_name"][-5] for row in read_rows(tmp_path / "copy") if row["error"]]

    assert left_behind([4, 2], {}) == []  # one of two
    assert left_behind([4, 1], {}) == []  # perhaps the machine was lost
    assert left_behind([4, 1], {4: 1}) == ["4"]
    journal.write_text('{"begun": [4')
    assert batch(model_dir, *words) == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--input", "IMAGES", "--output", "IMAGES/0.png"], "is a file"),
        (["--input", "nothing", "--output", "out"], "no such file"),
        (["--input", "empty.txt", "--output", "out"], "the list is empty"),
        (["--input", "url.txt", "--output", "out"], "line 2: https://x/y.jpg is a URL"),
        (["--input", "binary.txt", "--output", "out"], "line 1: not text"),
        (["--input", "missing.txt", "--output", "out"], "none of the first 2 images"),
        (["--input", "pipe.txt", "--output", "out"], "not a regular file"),
        (["--input", "text.parquet", "--output", "out"], "cannot be read as Parquet"),
        (["--input", "truncated.parquet", "--output", "out"], "cannot be read as Parquet"),
        (["--input", "other.parquet", "--output", "out"], "has the columns name, label"),
        (["--input", "none.parquet", "--output", "out"], "there are no images in it"),
        (["--input", "IMAGES", "--output", "out", "--opts", "MODEL.X", "1"], "MODEL.X"),
        (["--input", "IMAGES", "--output", "parts"], "has parts but no run.json"),
        (["--input", "IMAGES", "--output", "damaged"], "is not the file of a batch run"),
    ],
)
def test_bad_input(model_dir, quick, images, tmp_path, monkeypatch, capsys, words, reason):
    """Said before the model is loaded, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tfdetect.cli.batch.load_predictor", None)
    (tmp_path / "empty.txt").write_text("\n \r\n")
    (tmp_path / "url.txt").write_text("a.jpg\nhttps://x/y.jpg\n")
    (tmp_path / "binary.txt").write_bytes(b"\x89PNG\0\0\n")
    (tmp_path / "missing.txt").write_text("a.jpg\nb.jpg\n")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "text.parquet").write_text("x")
    pq.write_table(pa.table({"path": ["a"] * 99}), tmp_path / "truncated.parquet")
    whole = (tmp_path / "truncated.parquet").read_bytes()
    (tmp_path / "truncated.parquet").write_bytes(whole[:-20])
    pq.write_table(pa.table({"name": ["a"], "label": [1]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"path": pa.array([], pa.string())}), tmp_path / "none.parquet")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "part-0000000000-0000000004.parquet").touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("[]")
    words = [word.replace("IMAGES", str(images)) for word in words]
    assert reason in fails(capsys, tfdetect.cli.batch.main, "--model", model_dir, *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "-1/2", "1/2/3", "a/b", "1.0/2"])
def test_bad_shards(model_dir, capsys, shard):
    with pytest.raises(SystemExit) as raised:
        batch(model_dir, "--input", "x", "--output", "y", f"--shard={shard}")
    assert raised.value.code == 2
    assert "is not I/N" in capsys.readouterr().err


def test_another_run_in_the_folder(model_dir, quick, images, tmp_path, capsys):
    words = ["--input", images, "--output", tmp_path / "out", "--resume"]
    assert batch(model_dir, *words) == 0
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    copy = shutil.copytree(model_dir, tmp_path / "other")
    (copy / "metadata.json").write_text((copy / "metadata.json").read_text() + "\n")
    command = [tfdetect.cli.batch.main, "--model"]
    assert "another --model" in fails(capsys, *command, copy, *words)
    line = fails(capsys, *command, model_dir, *words, "--opts", "TEST.DETECTIONS_PER_IMAGE", "3")
    assert "another --opts" in line
    assert "images-per-file" in fails(capsys, *command, model_dir, *words, "--images-per-file", 3)
    (images / "9.png").unlink()
    assert "number of images" in fails(capsys, *command, model_dir, *words)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before


@pytest.mark.parametrize(
    ("module", "engine", "extra"), [("pyarrow", "process", "batch"), ("ray", "ray", "ray")]
)
def test_a_missing_extra(model_dir, images, tmp_path, monkeypatch, capsys, module, engine, extra):
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    words = ["--input", images, "--output", tmp_path / "out", "--engine", engine]
    line = fails(capsys, tfdetect.cli.batch.main, "--model", model_dir, *words)
    assert f"pip install 'tfdetect[{extra}]'" in line
    assert not (tmp_path / "out").exists()


def test_a_full_disk(model_dir, quick, images, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise tfdetect.cli.batch.InputError("part: cannot be written (No space left on device)")

    words = ["--images-per-file", 4, "--input", images, "--output", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr("tfdetect.batch.worker.write_part", full)
        line = fails(capsys, tfdetect.cli.batch.main, "--model", model_dir, *words)
    assert "No space left on device" in line
    assert "--resume" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]
    assert batch(model_dir, *words, "--resume") == 0
    assert len(read_rows(words[-1])) == 10


@pytest.mark.full
def test_killed_processes_lose_nothing(model_dir, tmp_path):
    """SIGTERM keeps what was predicted; after SIGKILL the unfinished file is predicted again."""
    words = [sys.executable, "-m", "tfdetect", "batch", "--model", str(model_dir)]
    words += ["--input", str(DEMO / "images"), "--output", str(tmp_path / "out"), "--resume"]
    words += ["--images-per-file", "10"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for number, status in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        before = len(list((tmp_path / "out").glob("part-*")))
        process = subprocess.Popen(words, env=environment)
        end = time.monotonic() + 120
        while len(list((tmp_path / "out").glob("part-*"))) < before + 1:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) == status
    assert subprocess.run(words, env=environment, check=False).returncode == 0
    assert len(read_rows(tmp_path / "out")) == 60
