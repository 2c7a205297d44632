"""Reading images: the pixels of Detectron2's `read_image`, and errors that name the file."""

from __future__ import annotations

import io
import os
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.paths import DATA, DEMO
from tfdetect.data.images import find_images, read_image, write_image
from tfdetect.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def _save(path, array=RGB, mode=None, **options):
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def _error(path):
    with pytest.raises(InputError) as info:
        read_image(path)
    message = str(info.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_jpeg_is_what_opencv_reads():
    # PARITY.md: both use libjpeg-turbo's accurate DCT, so the pixels are equal, not close.
    path = DEMO / "images" / "000000.jpg"
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, cv2.imread(str(path)))
    np.testing.assert_array_equal(read_image(path, "RGB"), image[:, :, ::-1])


def test_png_is_what_opencv_reads():
    path = DATA / "full" / "coffee.png"
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path)))


# What each orientation does to the picture that is shown, from the EXIF 2.3 table: the side of the
# picture that the stored row 0 and column 0 are.
SHOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
    9: lambda a: a,
}


@pytest.mark.parametrize("orientation", SHOWN)
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(path, "RGB"), SHOWN[orientation](RGB))


def test_exif_orientation_of_a_jpeg_is_opencvs(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = _save(tmp_path / "x.jpg", exif=exif)
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path)))


def test_damaged_exif_is_passed_over(tmp_path):
    path = _save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_image(path).shape == (20, 30, 3)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = _save(tmp_path / "x.png", mode=mode)
    expected = np.asarray(Image.fromarray(RGB).convert(mode).convert("RGB"))
    np.testing.assert_array_equal(read_image(path, "RGB"), expected)


def test_alpha_is_dropped_and_not_blended(tmp_path):
    alpha = np.arange(600, dtype=np.uint8).reshape(20, 30, 1)
    path = _save(tmp_path / "x.png", np.concatenate([RGB, alpha], -1))
    np.testing.assert_array_equal(read_image(path, "RGB"), RGB)
    grey = _save(tmp_path / "grey.png", np.concatenate([RGB[:, :, :1], alpha], -1))
    np.testing.assert_array_equal(read_image(grey, "RGB"), RGB[:, :, :1].repeat(3, -1))


def test_cmyk_jpeg(tmp_path):
    path = _save(tmp_path / "x.jpg", mode="CMYK")
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_image(path, "RGB"), expected)


def test_sixteen_bit_grey_png_is_pillows_conversion(tmp_path):
    grey = (np.arange(600, dtype=np.uint16) * 109).reshape(20, 30)
    path = tmp_path / "x.png"
    assert cv2.imwrite(str(path), grey)
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_image(path, "RGB"), expected)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "pbm", "pgm", "ppm", "tiff", "tga", "webp"])
def test_other_formats(tmp_path, suffix):
    path = _save(tmp_path / f"x.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_image(path, "RGB"), expected)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "x.gif") == 10).all()


def test_what_only_opencv_reads(tmp_path, capfd):
    assert cv2.imwrite(str(tmp_path / "x.pam"), RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "x.pam"), RGB)
    assert cv2.imwrite(str(tmp_path / "x.tiff"), RGB.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tiff"), RGB)
    (tmp_path / "cut.pam").write_bytes((tmp_path / "x.pam").read_bytes()[:-5])
    _error(tmp_path / "cut.pam")
    assert capfd.readouterr() == ("", "")


def test_floating_point_is_refused(tmp_path):
    assert cv2.imwrite(str(tmp_path / "x.hdr"), RGB.astype(np.float32) / 255)
    assert "8 bits" in _error(tmp_path / "x.hdr")


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff"])
def test_a_file_cut_short_anywhere(tmp_path, format, capfd):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, format)
    content = buffer.getvalue()
    # A PNG's last 20 bytes are the checksum of the last pixels' chunk and the end's own chunk.
    for length in range(0, len(content) - 20, 7):
        path = tmp_path / f"x{length}.{format}"
        path.write_bytes(content[:length])
        _error(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0" + bytes(50),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    ],
)
def test_what_is_no_image(tmp_path, content, capfd):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    _error(path)
    assert capfd.readouterr() == ("", "")


def test_missing_folder_and_pipe(tmp_path):
    assert "No such file" in _error(tmp_path / "missing.jpg")
    assert "folder" in _error(tmp_path)
    _error(tmp_path / ("n" * 300))
    _error(tmp_path / "nul\0byte")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "regular" in _error(tmp_path / "pipe.jpg")


def test_decompression_bomb(tmp_path):
    path = _save(tmp_path / "x.png", np.zeros((1, 1), np.uint8))
    content = bytearray(path.read_bytes())
    content[16:24] = (50_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(content))
    assert "pixels" in _error(path)


def test_unknown_channel_order():
    with pytest.raises(ValueError, match="YUV"):
        read_image("x", "YUV")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("b.jpg", "a.PNG", ".hidden.jpg", "notes.txt", "x.dat", "[1].jpg", "sub/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.jpg").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["."], ["[1].jpg", "a.PNG", "b.jpg"]),
        (["b.jpg", "."], ["b.jpg", "[1].jpg", "a.PNG"]),
        (["b.jpg", "./b.jpg", "sub/../b.jpg"], ["b.jpg"]),
        (["x.dat", "notes.txt"], ["x.dat", "notes.txt"]),
        (["[1].jpg"], ["[1].jpg"]),
        (["*"], ["[1].jpg", "a.PNG", "b.jpg"]),
        (["*.dat"], ["x.dat"]),
        (["**/*.jpg"], ["[1].jpg", "b.jpg", "sub/c.jpg"]),
        (["s?b"], None),
        (["sub"], ["sub/c.jpg"]),
        (["missing.jpg"], None),
        (["b.jpg", "*.gif"], None),
        (["empty"], None),
        ([""], None),
        (["n" * 300], None),
    ],
)
def test_find_images(tree, inputs, expected):
    if expected is None:
        with pytest.raises(InputError) as info:
            find_images(inputs)
        assert inputs[-1] in str(info.value)
        assert "\n" not in str(info.value)
    else:
        assert [str(path) for path in find_images(inputs)] == expected


def test_write_image(tmp_path, capfd):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    write_image(tmp_path / "new" / "x.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "x.png"), image)
    write_image(tmp_path / "x.JPG", image)
    reference = io.BytesIO()
    Image.fromarray(image).save(reference, "JPEG", quality=95)
    # The quality is in a JPEG's quantisation tables, of which both libraries make libjpeg's.
    with Image.open(tmp_path / "x.JPG") as written, Image.open(reference) as expected:
        assert written.quantization == expected.quantization
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "x.JPG"]
    assert capfd.readouterr() == ("", "")


def test_write_image_errors(tmp_path):
    image = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(InputError, match=r"x\.gif"):
        write_image(tmp_path / "x.gif", image)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"x\.png"):
        write_image(tmp_path / "file" / "x.png", image)
    with pytest.raises(InputError, match="65500"):
        write_image(tmp_path / "x.jpg", np.zeros((1, 65501, 3), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
