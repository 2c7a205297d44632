"""Reads the header of an encoded image inside the graph.

All functions accept any bytes and never fail: damaged parts read as zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
# What stands for an orientation in XMP; \C is any byte. Pillow's rule, which finds the first.
_XMP_ORIENTATION = r'\C*?tiff:Orientation(?:="|>)([0-9])\C*'
# Maximum number of header segments, which bounds the run time on malicious files.
_MOST_SEGMENTS = 10_000
_MOST_CHUNKS = 100_000
_ORIENTATION = 0x0112
_LARGEST_INT32 = 2**31 - 1


class Header(NamedTuple):
    """Of an image, scalars.

    Attributes:
        height, width: int32, as stored, in pixels; 0 where the header does not say.
        channels: int32, of a JPEG: 1, 3 or 4 (CMYK).
        has_adobe_marker: bool, of a JPEG.
        orientation: int32, EXIF's, from 1 (upright) to 8.
    """

    height: tf.Tensor
    width: tf.Tensor
    channels: tf.Tensor
    has_adobe_marker: tf.Tensor
    orientation: tf.Tensor


def jpeg_header(content: tf.Tensor) -> Header:
    """Read a JPEG's segments up to its first scan.

    The orientation is Pillow's `Image.getexif()`: of the Exif segments, else of XMP.

    Args:
        content: string [], the file.
    """
    length = tf.strings.length(content)
    padded = tf.strings.join([content, b"\0" * 32])

    def more(position: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (position >= 0) & (position < length)

    def step(
        position: tf.Tensor,
        exif: tf.Tensor,
        xmp: tf.Tensor,
        height: tf.Tensor,
        width: tf.Tensor,
        channels: tf.Tensor,
        adobe: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        marker = _uint16(padded, position)
        size = _uint16(padded, position + 2)
        body = position + 4
        is_filler = (marker < 0xFF00) | (marker == 0xFFFF)
        # Stuffed zeros, RSTn and SOI stand alone.
        is_alone = (marker == 0xFF00) | (marker >= 0xFFD0) & (marker <= 0xFFD8)
        ends = (marker == 0xFFDA) | (marker == 0xFFD9)
        start_of_frame = (marker >= 0xFFC0) & (marker <= 0xFFCF)
        for other in (0xFFC4, 0xFFC8, 0xFFCC):  # tables among the frames' markers
            start_of_frame &= marker != other
        is_exif = (marker == 0xFFE1) & _starts(padded, body, _EXIF)
        is_xmp = (marker == 0xFFE1) & _starts(padded, body, _XMP)
        # Multiple Exif segments are concatenated.
        exif = tf.cond(
            is_exif,
            lambda: tf.strings.join([exif, _part(content, body + len(_EXIF), position + 2 + size)]),
            lambda: exif,
        )
        xmp = tf.cond(
            is_xmp,
            lambda: _part(content, body + len(_XMP), position + 2 + size),
            lambda: xmp,
        )
        height = tf.where(start_of_frame, _uint16(padded, body + 1), height)
        width = tf.where(start_of_frame, _uint16(padded, body + 3), width)
        channels = tf.where(start_of_frame, _uint16(padded, body + 4) % 256, channels)
        adobe |= (marker == 0xFFEE) & (size >= 14) & _starts(padded, body, b"Adobe")
        following = tf.where(is_filler, position + 1, position + 2 + size)
        following = tf.where(is_alone, position + 2, following)
        return tf.where(ends, -1, following), exif, xmp, height, width, channels, adobe

    nothing = tf.constant(b"")
    zero = tf.constant(0)
    _, exif, xmp, height, width, channels, adobe = tf.while_loop(
        more,
        step,
        [tf.constant(2), nothing, nothing, zero, zero, zero, tf.constant(False)],
        maximum_iterations=_MOST_SEGMENTS,
    )
    return Header(height, width, channels, adobe, _orientation(exif, xmp))


def png_header(content: tf.Tensor) -> Header:
    """Read a PNG's size and its eXIf chunk, wherever that is; see `jpeg_header`."""
    length = tf.strings.length(content)
    padded = tf.strings.join([content, b"\0" * 32])

    def more(position: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return (position >= 0) & (position < length)

    def step(position: tf.Tensor, exif: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = _int32(padded, position)
        name = tf.strings.substr(padded, position + 4, 4)
        exif = tf.cond(
            tf.equal(name, b"eXIf"),
            lambda: _part(content, position + 8, position + 8 + size),
            lambda: exif,
        )
        # A size beyond the file would overflow the sum.
        ends = tf.equal(name, b"IEND") | (size < 0) | (size > length)
        return tf.where(ends, -1, position + 12 + size), exif

    _, exif = tf.while_loop(
        more, step, [tf.constant(8), tf.constant(b"")], maximum_iterations=_MOST_CHUNKS
    )
    at = tf.minimum(length, 16)
    height, width = _int32(padded, at + 4), _int32(padded, at)
    return Header(
        tf.where(height < 0, _LARGEST_INT32, height),
        tf.where(width < 0, _LARGEST_INT32, width),
        tf.constant(0),
        tf.constant(False),
        _orientation(exif, tf.constant(b"")),
    )


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn and mirror uint8 [H, W, 3] so that EXIF's `orientation` (1 to 8) becomes 1."""

    def turn() -> tf.Tensor:
        turned = tf.cond(orientation >= 5, lambda: _transposed(image), lambda: image)
        flips = [_among(orientation, (3, 4, 7, 8)), _among(orientation, (2, 3, 6, 7)), False]
        return tf.raw_ops.Reverse(tensor=turned, dims=tf.stack(flips))

    return tf.cond(orientation > 1, turn, lambda: image)


def _transposed(image: tf.Tensor) -> tf.Tensor:
    """uint8 [H, W, 3] to [W, H, 3].

    Not by `tf.transpose`: of uint8, TensorFlow's oneDNN complains on a processor without AVX-512
    when it loads the graph, whether or not an image has to be turned.
    """
    height, width, channels = tf.unstack(tf.shape(image))
    pixels = tf.range(height) * width + tf.range(width)[:, None]
    return tf.gather(tf.reshape(image, [height * width, channels]), pixels)


def _orientation(exif: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    """From a TIFF directory (EXIF without its prefix) or else from XMP; 1 where neither says."""
    mark = tf.strings.substr(tf.strings.join([exif, b"\0" * 8]), 0, 4)
    valid = tf.equal(mark, b"II*\0") | tf.equal(mark, b"MM\0*")
    little = tf.equal(mark, b"II*\0")
    present, value = tf.cond(
        valid,
        lambda: tf.cond(
            little,
            lambda: _directory_orientation(exif, little_endian=True),
            lambda: _directory_orientation(exif, little_endian=False),
        ),
        # Damaged EXIF hides what XMP says, too.
        lambda: (tf.strings.length(exif) > 0, tf.constant(1)),
    )
    found = tf.strings.regex_full_match(xmp, _XMP_ORIENTATION)
    digit = tf.where(found, tf.strings.regex_replace(xmp, _XMP_ORIENTATION, r"\1"), b"1")
    value = tf.where(present, value, tf.strings.to_number(digit, tf.int32))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _directory_orientation(tiff: tf.Tensor, little_endian: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether the first directory of a TIFF has the tag, and its value, 0 if it is not an
    integer.
    """
    length = tf.strings.length(tiff)
    padded = tf.strings.join([tiff, b"\0" * 32])
    start = _int32(padded, tf.constant(4), little_endian)
    # An offset beyond the end reads as a directory without entries.
    start = tf.where((start < 0) | (start > length), length, start)
    whole_entries = tf.maximum(length - start - 2, 0) // 12
    count = tf.minimum(_uint16(padded, start, little_endian), whole_entries)
    entries = tf.strings.substr(padded, start + 2, 12 * count)
    words = tf.io.decode_raw(entries, tf.uint16, little_endian=little_endian)
    # Of each entry: tag, type, count (two words), value (two words).
    words = tf.reshape(tf.cast(words, tf.int32), [-1, 6])
    of_tag = tf.boolean_mask(words, words[:, 0] == _ORIENTATION)
    present = tf.shape(of_tag)[0] > 0
    last = tf.concat([tf.zeros([1, 6], tf.int32), of_tag], 0)[-1]
    low, high = (0, 1) if little_endian else (1, 0)
    is_short = _among(last[1], (3, 8))
    is_long = _among(last[1], (4, 9)) & (last[4 + high] == 0)
    is_one = (last[2 + low] == 1) & (last[2 + high] == 0)
    value = tf.where(is_short, last[4], tf.where(is_long, last[4 + low], 0))
    return present, tf.where(is_one, value, 0)


def _part(content: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """The bytes [start, end) of `content`, as far as it has them."""
    length = tf.strings.length(content)
    start = tf.clip_by_value(start, 0, length)
    return tf.strings.substr(content, start, tf.clip_by_value(end, start, length) - start)


def _starts(padded: tf.Tensor, position: tf.Tensor, prefix: bytes) -> tf.Tensor:
    return tf.equal(_part(padded, position, position + len(prefix)), prefix)


def _uint16(padded: tf.Tensor, position: tf.Tensor, little_endian: bool = False) -> tf.Tensor:
    return _number(padded, position, tf.uint16, little_endian)


def _int32(padded: tf.Tensor, position: tf.Tensor, little_endian: bool = False) -> tf.Tensor:
    return _number(padded, position, tf.int32, little_endian)


def _number(
    padded: tf.Tensor, position: tf.Tensor, dtype: tf.DType, little_endian: bool
) -> tf.Tensor:
    """The int32 of the bytes at `position`, which is at most a few beyond the unpadded end."""
    part = tf.strings.substr(padded, position, dtype.size)
    return tf.cast(tf.io.decode_raw(part, dtype, little_endian=little_endian)[0], tf.int32)


def _among(value: tf.Tensor, values: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(value == tf.constant(values))
