"""Images decoded in the graph: the pixels of `read_image`, but for the bound that CMYK states."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.support.paths import DATA
from tfdetect.data.images import read_image
from tfdetect.export.decode import MOST_PIXELS, decode_images

DECODE = tf.function(
    decode_images, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
)
PHOTO = Image.open(DATA / "full" / "coffee.png").convert("RGB").crop((40, 60, 143, 137))
"""Of odd height and width, so that subsampled colours end within a block."""


def encode(image, form, **options):
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def exif(orientation, form="short", endian="<"):
    """EXIF as a TIFF directory of two tags, the value in one of the types that may hold it."""
    code, letter = {"short": (3, "H"), "long": (4, "L"), "byte": (1, "B")}[form]
    value = struct.pack(endian + letter, orientation).ljust(4, b"\0")
    entries = struct.pack(endian + "HHL4s", 0x010E, 2, 3, b"me\0\0")
    entries += struct.pack(endian + "HHL4s", 0x0112, code, 1, value)
    head = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "LH", 8, 2)
    return b"Exif\0\0" + head + entries + b"\0\0\0\0"


def without_adobe(jpeg):
    start = jpeg.index(b"\xff\xee")
    (size,) = struct.unpack(">H", jpeg[start + 2 : start + 4])
    return jpeg[:start] + jpeg[start + 2 + size :]


def chunk(name, data):
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def png_16_bits(kind, channels):
    """A PNG that Pillow does not write: 16 bits in each channel."""
    rng = np.random.default_rng(kind)
    values = rng.integers(0, 2**16, [7, 9, channels]).astype(">u2")
    values[:3] //= 256  # dark enough that grey is not cut off
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">LLBBBBB", 9, 7, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def jpegs():
    for sampling in range(3):
        yield f"sampling_{sampling}", encode(PHOTO, "JPEG", quality=75, subsampling=sampling)
    yield "progressive", encode(PHOTO, "JPEG", progressive=True, quality=90)
    yield "coarse", encode(PHOTO, "JPEG", quality=5, restart_marker_rows=1)
    yield "grey", encode(PHOTO.convert("L"), "JPEG")
    yield "rgb", encode(PHOTO, "JPEG", keep_rgb=True)
    for orientation in range(10):
        yield f"turned_{orientation}", encode(PHOTO, "JPEG", exif=exif(orientation))
    for form in ("long", "byte"):
        for endian in "<>":
            data = exif(6, form, endian)
            yield f"turned_by_{form}_{endian}", encode(PHOTO, "JPEG", exif=data)
    yield "big_endian", encode(PHOTO, "JPEG", exif=exif(8, endian=">"))
    damaged = exif(6)[:-20]
    yield "exif_cut_short", encode(PHOTO, "JPEG", exif=damaged)
    xmp = b'<?xpacket?><x xmp:a="\xe4" tiff:Orientation="3" tiff:Orientation="6"/>'
    yield "xmp", encode(PHOTO, "JPEG", xmp=xmp)
    yield "exif_before_xmp", encode(PHOTO, "JPEG", xmp=xmp, exif=exif(8))


def pngs():
    modes = {"alpha": "RGBA", "grey": "L", "grey_alpha": "LA", "palette": "P", "bits": "1"}
    for name, mode in modes.items():
        image = PHOTO.convert(mode)
        if "alpha" in name:
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        yield name, encode(image, "PNG")
    few = PHOTO.convert("P", palette=Image.Palette.ADAPTIVE, colors=9)
    yield "palette_4_bits", encode(few, "PNG", bits=4)
    yield "palette_transparent", encode(few, "PNG", transparency=3)
    yield "colour_transparent", encode(PHOTO, "PNG", transparency=PHOTO.getpixel((0, 0)))
    for name, kind, channels in (("grey", 0, 1), ("rgb", 2, 3), ("la", 4, 2), ("rgba", 6, 4)):
        yield f"{name}_16_bits", png_16_bits(kind, channels)
    for orientation in range(1, 9):
        yield f"png_turned_{orientation}", encode(PHOTO, "PNG", exif=exif(orientation))


def read(content, folder):
    path = folder / "image"
    path.write_bytes(content)
    return read_image(path)


@pytest.mark.parametrize("kinds", [jpegs, pngs])
def test_the_same_pixels(kinds, tmp_path):
    """All in one batch: every grey level is read_image's."""
    contents = dict(kinds())
    pixels, sizes = (values.numpy() for values in DECODE(list(contents.values())))
    turned = start = 0
    for size, (name, content) in zip(sizes, contents.items(), strict=True):
        expected = read(content, tmp_path)
        assert tuple(size) == expected.shape[:2], name
        image = pixels[start : start + size.prod()].reshape(expected.shape)
        np.testing.assert_array_equal(image, expected, err_msg=name)
        start += size.prod()
        turned += expected.shape[0] > expected.shape[1]
    assert turned >= 4  # 5 to 8, at least
    assert start == len(pixels)


@pytest.mark.parametrize("marked", [True, False])
def test_cmyk(marked, tmp_path):
    """TensorFlow cuts off the product of two inks where Pillow rounds it: one grey level less."""
    inks = [PHOTO.getchannel(0), PHOTO.getchannel(1), PHOTO.getchannel(2)]
    black = Image.linear_gradient("L").resize(PHOTO.size)
    content = encode(Image.merge("CMYK", [*inks, black]), "JPEG", quality=95)
    content = content if marked else without_adobe(content)
    pixels, (size,) = DECODE([content])
    image = pixels.numpy().reshape(*size, 3)
    difference = image.astype(int) - read(content, tmp_path)
    assert difference.min() == -1
    assert difference.max() == 0


def faults():
    jpeg, png = encode(PHOTO, "JPEG"), encode(PHOTO, "PNG")
    unknown, damaged = "neither a JPEG nor a PNG", "damaged or truncated"
    yield "empty", b"", unknown
    yield "gif", encode(PHOTO, "GIF"), unknown
    yield "jpeg_cut", jpeg[: len(jpeg) // 2], damaged
    yield "jpeg_start", jpeg[:3], damaged
    yield "jpeg_zeros", jpeg[:20] + bytes(2000), damaged
    yield "png_cut", png[: len(png) // 2], damaged
    yield "png_start", png[:8], damaged
    yield "png_flipped", png[:5000] + bytes([png[5000] ^ 255]) + png[5001:], damaged
    side = int(MOST_PIXELS**0.5) + 1
    huge = struct.pack(">LLBBBBB", side, side, 8, 2, 0, 0, 0)
    yield "png_huge", png[:8] + chunk(b"IHDR", huge) + png[33:], "more than 178956970 pixels"
    start = jpeg.index(b"\xff\xc0") + 5
    yield "jpeg_huge", jpeg[:start] + b"\xff\xdc" * 2 + jpeg[start + 4 :], "more than 178956970"


@pytest.mark.parametrize(
    ("content", "reason"), [p[1:] for p in faults()], ids=[p[0] for p in faults()]
)
def test_a_fault_names_the_image(content, reason):
    good = encode(PHOTO, "JPEG")
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"image_bytes\[1\] .*{reason}"):
        DECODE([good, content, good, b"another"])
    assert DECODE([good])[1].numpy().tolist() == [[77, 103]]


def test_random_damage():
    """Whatever happens to a file, the answer is an image or the error that names it."""
    rng = np.random.default_rng(0)
    files = [encode(PHOTO, "JPEG", exif=exif(6)), encode(PHOTO, "PNG", exif=exif(6))]
    outcomes = set()
    for index in range(60):
        content = bytearray(files[index % 2])
        for place in rng.integers(0, 120 if index % 3 else len(content), 3):
            content[place] = rng.integers(256)
        try:
            DECODE([files[0], bytes(content)])
            outcomes.add("image")
        except tf.errors.InvalidArgumentError as error:
            outcomes.add("fault" if "image_bytes[1] " in error.message else error.message)
    assert outcomes == {"image", "fault"}
