"""Reading Pascal VOC's folders: what Detectron2 makes of them, and errors that name the file."""

from __future__ import annotations

import pytest

from tfdetect.data.voc import VocImage, VocObject, read_voc
from tfdetect.errors import InputError

OBJECT = """<object><name>dog</name><pose>Left</pose><truncated>1</truncated>
<difficult>{}</difficult><bndbox><xmin>1</xmin><ymin>{}</ymin><xmax>353</xmax><ymax>500</ymax>
</bndbox></object>"""
VALID = (
    "<annotation><folder>VOC2007</folder><filename>000001.jpg</filename>"
    "<size><width>353</width><height>500</height><depth>3</depth></size>"
    + OBJECT.format(0, 240)
    + OBJECT.format(1, 8.5)
    + "</annotation>"
)


def _folder(tmp_path, content=VALID, names="000001\n", split="test"):
    for folder in ("Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "Annotations" / "000001.xml").write_bytes(content)
    return tmp_path


def test_boxes_begin_at_0(tmp_path):
    dataset = read_voc(_folder(tmp_path), ["cat", "dog"])
    first = VocObject(1, (0, 239, 353, 500), False)
    second = VocObject(1, (0, 7.5, 353, 500), True)
    assert dataset.images == (VocImage("000001", "000001.jpg", 500, 353, (first, second)),)
    assert (dataset.year, dataset.class_names) == (2007, ("cat", "dog"))
    assert dataset.image_folder == tmp_path / "JPEGImages"


def test_another_set_is_named_by_its_list(tmp_path, monkeypatch):
    _folder(tmp_path, split="val", content=VALID.replace("VOC2007", "photos"))
    with pytest.raises(InputError, match=r"test\.txt: is missing"):
        read_voc(tmp_path, ["dog"])
    dataset = read_voc(tmp_path / "ImageSets" / "Main" / "val.txt", ["dog"])
    assert (len(dataset.images), dataset.year) == (1, None)
    monkeypatch.chdir(tmp_path / "ImageSets" / "Main")
    assert read_voc("val.txt", ["dog"]).images == dataset.images


def test_decimal_sizes(tmp_path):
    content = VALID.replace("<width>353", "<width> 353.0 ").replace("<xmax>353", "<xmax>352.5")
    (image,) = read_voc(_folder(tmp_path, content), ["dog"]).images
    assert image.width == 353
    assert max(found.box[2] for found in image.objects) == 352.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not XML"),
        (b"\xff\xfe<", "not XML"),
        (VALID[:-20], "not XML"),
        ('<?xml version="1.0" encoding="none-such"?><annotation/>', "not XML"),
        ('<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>', "document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        ("<annotation/>", "size/height"),
        (VALID.replace("<width>353", "<width>wide"), "size/width"),
        (VALID.replace("<width>353", "<width>-3"), "size/width"),
        (VALID.replace("<width>353", "<width>0"), "size/width"),
        (VALID.replace("dog", "wolf"), "'wolf'"),
        (VALID.replace("<name>dog</name>", ""), "class ''"),
        (VALID.replace("<xmin>1</xmin>", ""), "bndbox"),
        (VALID.replace("<xmax>353", "<xmax>nan"), "bndbox"),
        (VALID.replace("<xmax>353", "<xmax>x"), "bndbox"),
        (VALID.replace("<xmax>353", "<xmax>1e30"), "bndbox"),
        (VALID.replace("<xmax>353", "<xmax>0.5"), "a max below its min"),
    ],
)
def test_what_is_not_voc_is_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read_voc(_folder(tmp_path, content), ["dog"])
    assert "000001.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("", "lists no images"),
        ("000001 -1\n", "not an image name"),
        ("../000001\n", "not an image name"),
        ("000001\n000001\n", "twice"),
        ("000002\n", r"000002\.xml: cannot be read"),
    ],
)
def test_what_is_no_list_is_named(tmp_path, names, message):
    with pytest.raises(InputError, match=message) as caught:
        read_voc(_folder(tmp_path, names=names), ["dog"])
    assert "\n" not in str(caught.value)
