"""DOTA's text files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tfdetect.data import dota
from tfdetect.data.dataset_files import DatasetFiles
from tfdetect.data.dota import dota_as_coco, images_of_dota, is_dota, read_dota_files
from tfdetect.data.registry import dataset_metadata, dota_files
from tfdetect.errors import InputError
from tfdetect.evaluation.registry import open_dataset

LINES = """imagesource:GoogleEarth
gsd:0.146
10 10 50 10 50 30 10 30 ship 0
60.0 20.0 80.0 40.0 70.0 50.0 50.0 30.0 large-vehicle 1
20 60 20 40 30 40 30 60 my-crane
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "images").mkdir()
    for name, text in (("P0001", LINES), ("P0002", "")):
        (tmp_path / "labelTxt" / f"{name}.txt").write_text(text)
    Image.new("RGB", (100, 80)).save(tmp_path / "images" / "P0001.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "P0002.JPG", "JPEG")
    return tmp_path / "labelTxt"


def read_dota(folder, report=None, **options):
    return dota_as_coco(folder, read_dota_files(folder), images_of_dota(folder), report, **options)


def test_read(folder):
    assert is_dota(folder)
    dataset = read_dota(folder)
    assert [(i.file_name, i.height, i.width) for i in dataset.images] == [
        ("P0001.png", 80, 100),
        ("P0002.JPG", 30, 40),
    ]
    assert dataset.category_names == ("ship", "large-vehicle", "my-crane")
    boxes = np.array([entry["bbox"] for entry in dataset.annotations])
    sides = np.sqrt([800, 200])
    expected = [[30, 20, 40, 20, 0], [65, 35, *sides, -45], [25, 50, 20, 10, 90]]
    np.testing.assert_allclose(boxes, expected, atol=1e-4)
    assert [entry["iscrowd"] for entry in dataset.annotations] == [0, 0, 0]
    measured = read_dota(folder, difficult_as_crowds=True)
    assert [entry["iscrowd"] for entry in measured.annotations] == [0, 1, 0]


def test_one_look_at_each_file_gives_names_and_objects(folder, monkeypatch):
    """Of whatever images there are; what is changed is read again."""
    read = []

    def lines(file, original=dota._lines):
        read.append(file.name)
        return original(file)

    monkeypatch.setattr(dota, "_lines", lines)
    images = images_of_dota(folder)
    (folder / "P0003.txt").write_text("1 2 3 2 3 4 1 4 without-image 0\n")
    (folder / "P0004.txt").write_text("1 2 3 2 3 4 1 4 broken-image 0\n1 2 ship\n")
    (images / "P0004.png").write_bytes(b"no image")
    files = DatasetFiles("boats", "DOTA", folder, images)
    names = dataset_metadata(files).thing_classes
    assert names == ["ship", "large-vehicle", "broken-image", "my-crane", "without-image"]
    dataset = dota_as_coco(folder, dota_files(files), images, lambda error: None)
    assert names == list(dataset.category_names)
    assert len(dataset.annotations) == 3
    assert read == ["P0001.txt", "P0002.txt", "P0003.txt", "P0004.txt"]
    (folder / "P0003.txt").write_text("")
    assert dataset_metadata(files).thing_classes == names[:-1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3 4 5 6 7 8", r"P0001.txt: line 6: is not x1 y1"),
        ("1 2 3 4 5 6 7 nan ship 0", "line 6: is not x1 y1"),
        ("1 2 3 4 5 6 7 1e12 ship 0", "line 6: a corner is farther away"),
        ("1 2 3 4 5 6 7 8 ship yes", "line 6: difficult is 'yes'"),
        ("1 2 3 4 5 6 7 8 small ship 0", "line 6: is not x1 y1"),
    ],
)
def test_broken_lines(folder, line, message):
    file = folder / "P0001.txt"
    file.write_text(LINES + line + "\n")
    with pytest.raises(InputError, match=message):
        read_dota(folder)
    reported = []
    assert len(read_dota(folder, reported.append).annotations) == 3
    assert len(reported) == 1


def test_broken_files(folder):
    (folder / "P0003.txt").write_text("")
    with pytest.raises(InputError, match=r"P0003.txt: .*has no image P0003.png"):
        read_dota(folder)
    (folder.parent / "images" / "P0003.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"P0003.png cannot be read as an image"):
        read_dota(folder)
    (folder / "P0002.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_dota(folder, lambda error: None)
    with pytest.raises(InputError, match=r"has no \.txt files"):
        read_dota(folder.parent)


def test_evaluation_leaves_difficult_objects_out(folder):
    dataset = open_dataset(folder, ["bbox"], ["ship", "large-vehicle", "my-crane"], rotated=True)
    assert dataset.form == "DOTA"
    assert dataset.image_folder == folder.absolute().parent / "images"
    result = {"image_id": 1, "category_id": 1, "bbox": [30, 20, 40, 20, 0], "score": 0.9}
    crane = {**result, "category_id": 3, "bbox": [25, 50, 20, 10, 90]}
    metrics = dataset.evaluate([result, crane])["bbox"]
    assert metrics["AP"] == pytest.approx(100)
    assert np.isnan(metrics["AP-large-vehicle"])
    with pytest.raises(InputError, match="whose boxes are rotated"):
        open_dataset(folder, ["bbox"], ["ship"])
