"""`tfdetect coco-results`: what a batch run found, as COCO's tools read it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tfdetect.cli.batch
import tfdetect.cli.coco_results
from tests.support.batch import QuickPredictor
from tests.support.commands import fails
from tests.support.paths import DEMO
from tests.support.predictors import shared_predictor
from tfdetect.data.coco import read_coco
from tfdetect.data.images import read_image
from tfdetect.evaluation.coco import to_results

pytest.importorskip("pyarrow")

ANNOTATIONS = DEMO / "annotations.json"


@pytest.fixture(scope="module")
def run(model_dir, tmp_path_factory):
    """The first three images of the demo."""
    folder = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        predictor = shared_predictor(model_dir)
        patch.setattr("tfdetect.cli.batch.load_predictor", lambda *_: predictor)
        files = [str(DEMO / "images" / f"00000{index}.jpg") for index in range(3)]
        words = ["--model", str(model_dir), "--output", str(folder), "--images-per-file", "2"]
        assert tfdetect.cli.batch.main([*words, "--input", *files]) == 0
    return folder


def convert(run, output, *words):
    command = ["--input", str(run), "--output", str(output), *map(str, words)]
    assert tfdetect.cli.coco_results.main(command) == 0
    return json.loads(output.read_text())


def test_results_are_those_of_evaluate(model_dir, run, tmp_path, capsys):
    records = convert(run, tmp_path / "results.json", "--annotations", ANNOTATIONS)
    dataset = read_coco(ANNOTATIONS)
    expected = []
    for image in dataset.images[:3]:
        found = shared_predictor(model_dir)(read_image(DEMO / "images" / image.file_name))
        expected += to_results(found, image.id, dataset.category_ids)
    assert records == expected
    assert "57 of its images have no results" in capsys.readouterr().err


def test_a_data_set_of_what_was_found(run, tmp_path):
    convert(run, tmp_path / "found.json", "--confidence-threshold", 0.5)
    content = json.loads((tmp_path / "found.json").read_text())
    dataset = read_coco(tmp_path / "found.json")
    assert dataset.category_names == ("person", "circle", "square", "triangle")
    assert [image.id for image in dataset.images] == [0, 1, 2]
    assert dataset.images[0].file_name == str(DEMO / "images" / "000000.jpg")
    assert len(dataset.annotations) == len(content["annotations"]) > 3
    for entry in content["annotations"]:
        assert entry["score"] >= 0.5
        assert entry["area"] <= np.prod(entry["bbox"][2:]) * 1.1
        assert set(entry["keypoints"][2::3]) == {2}


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_what_cannot_be_converted(model_dir, run, tmp_path, monkeypatch, capsys):
    main = tfdetect.cli.coco_results.main
    output = tmp_path / "out.json"
    folder = tmp_path / "run"
    words = ["--output", output, "--input", folder]
    assert "no run.json" in fails(capsys, main, *words)
    folder.mkdir()
    (folder / "run.json").write_text('{"images": 3}')
    assert "has no results yet" in fails(capsys, main, *words)
    first, second = sorted(run.glob("part-*"))
    (folder / first.name).write_bytes(first.read_bytes())
    assert "1 of 3 images are missing" in fails(capsys, main, *words)
    assert main([*map(str, words), "--partial"]) == 0
    output.unlink()
    (folder / second.name).write_bytes(second.read_bytes()[:-9])
    assert f"{folder / second.name}: cannot be read as Parquet" in fails(capsys, main, *words)
    # One that is another's, and one that overlaps.
    (folder / second.name).write_bytes(first.read_bytes())
    assert "has 2 rows instead of 1" in fails(capsys, main, *words)
    (folder / "part-0000000001-0000000003.parquet").write_bytes(first.read_bytes())
    assert "have images in common" in fails(capsys, main, *words)
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in folder.glob("part-*"):
        path.unlink()
    pq.write_table(pa.table({"a": [1, 2, 3]}), folder / "part-0000000000-0000000003.parquet")
    assert "was not written by tfdetect batch" in fails(capsys, main, *words)
    assert not output.exists()


def test_annotations_that_do_not_match(run, tmp_path, capsys):
    main, output = tfdetect.cli.coco_results.main, tmp_path / "out.json"
    path = tmp_path / "annotations.json"
    words = ["--input", run, "--output", output, "--annotations", path]

    def change(function):
        path.write_text(ANNOTATIONS.read_text())
        rewrite(path, function)

    change(lambda content: content.update(images=content["images"][9:], annotations=[]))
    assert "has none of the images of the run" in fails(capsys, main, *words)
    change(lambda content: content.update(categories=[{"id": 1, "name": "car"}], annotations=[]))
    assert str(path) in fails(capsys, main, *words)
    assert not output.exists()


def test_images_with_an_error_are_left_out(model_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tfdetect.cli.batch.load_predictor", lambda *_: QuickPredictor(model_dir))
    (tmp_path / "bad.jpg").write_text("x")
    words = ["--model", model_dir, "--output", tmp_path / "out", "--input"]
    words += [tmp_path / "bad.jpg", DEMO / "images" / "000000.jpg"]
    assert tfdetect.cli.batch.main([str(word) for word in words]) == 0
    found = convert(tmp_path / "out", tmp_path / "found.json")
    assert [image["id"] for image in found["images"]] == [1]
    assert [entry["image_id"] for entry in found["annotations"]] == [1]
    assert "1 images have an error" in capsys.readouterr().err


def test_twice_the_same_image(model_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tfdetect.cli.batch.load_predictor", lambda *_: QuickPredictor(model_dir))
    image = DEMO / "images" / "000000.jpg"
    (tmp_path / "list.txt").write_text(f"{image}\n{image}\n")
    words = ["--model", model_dir, "--output", tmp_path / "out", "--input", tmp_path / "list.txt"]
    assert tfdetect.cli.batch.main([str(word) for word in words]) == 0
    words = ["--input", tmp_path / "out", "--output", tmp_path / "a.json"]
    words += ["--annotations", ANNOTATIONS]
    assert "are both its image" in fails(capsys, tfdetect.cli.coco_results.main, *words)
