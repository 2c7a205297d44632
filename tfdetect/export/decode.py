"""JPEG and PNG to pixels inside the graph: what `tfdetect.data.images.read_image` gives."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from tfdetect.export.exif import Header, jpeg_header, png_header, upright

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# APP14 without a colour transform, from marker to end.
_ADOBE_MARKER = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
MOST_PIXELS = 178_956_970
"""Pillow rejects images of more pixels than this as decompression bombs."""

_COMPLAINTS = (
    "",
    "is neither a JPEG nor a PNG; send one of these",
    f"has more than {MOST_PIXELS} pixels; make the image smaller",
    "is damaged or truncated; send the whole file",
)
_FINE, _UNKNOWN, _TOO_LARGE, _DAMAGED = range(4)


def decode_images(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode images of any sizes, upright by their EXIF orientation.

    Args:
        contents: string [N], JPEG or PNG files.

    Returns:
        uint8 [P, 3] BGR, the pixels of one image after the other, row by row, and int32 [N, 2],
        (height, width) of each. The pixels are Pillow's, but those of CMYK, which may be one grey
        level less (TensorFlow's decoder cuts off where Pillow rounds).

    Raises:
        tf.errors.InvalidArgumentError: when it runs, with the index of an image that cannot be
            decoded.
    """
    count = tf.shape(contents)[0]
    images = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=[None, 3])
    sizes = tf.TensorArray(tf.int32, count, element_shape=[2])
    faults = tf.TensorArray(tf.int32, count, element_shape=[])

    def decode(
        index: tf.Tensor, images: tf.TensorArray, sizes: tf.TensorArray, faults: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray, tf.TensorArray]:
        image, fault = _decode(contents[index])
        return (
            index + 1,
            images.write(index, tf.reshape(image, [-1, 3])[:, ::-1]),
            sizes.write(index, tf.shape(image)[:2]),
            faults.write(index, fault),
        )

    _, images, sizes, faults = tf.while_loop(
        lambda index, *_: index < count, decode, [tf.constant(0), images, sizes, faults]
    )
    with tf.control_dependencies([_require_no_fault(faults.stack())]):
        pixels = tf.ensure_shape(images.concat(), [None, 3])
    return pixels, sizes.stack()


def _require_no_fault(faults: tf.Tensor) -> tf.Operation:
    """An operation that fails, naming the first image with a fault of int32 [N], if any."""
    first = tf.argmax(tf.concat([faults, [_FINE]], 0) != _FINE, output_type=tf.int32)
    complaint = tf.gather(tf.constant(_COMPLAINTS), tf.concat([faults, [_FINE]], 0)[first])
    message = tf.strings.join(["image_bytes[", tf.strings.as_string(first), "] ", complaint])
    return tf.debugging.Assert(tf.reduce_all(faults == _FINE), [message])


def _decode(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 [H, W, 3] RGB, upright, and what is wrong with it; [0, 0, 3] where anything is."""
    nothing = tf.zeros([0, 0, 3], tf.uint8)
    is_png = tf.equal(tf.strings.substr(content, 0, len(_PNG)), _PNG)
    is_jpeg = tf.equal(tf.strings.substr(content, 0, len(_JPEG)), _JPEG)

    def decode() -> tuple[tf.Tensor, tf.Tensor]:
        header = Header(
            *tf.cond(
                is_png, lambda: tuple(png_header(content)), lambda: tuple(jpeg_header(content))
            )
        )
        pixels = tf.cast(header.height, tf.int64) * tf.cast(header.width, tf.int64)
        return tf.cond(
            pixels > MOST_PIXELS,
            lambda: (nothing, tf.constant(_TOO_LARGE)),
            lambda: decode_pixels(header),
        )

    def decode_pixels(header: Header) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.cond(
            is_png,
            lambda: _decode_png(content),
            lambda: _attempt(_decode_jpeg, _as_adobe(content, header)),
        )
        decoded = tf.size(image) > 0
        orientation = tf.where(decoded, header.orientation, 1)  # nothing cannot be turned
        return upright(image, orientation), tf.where(decoded, _FINE, _DAMAGED)

    return tf.cond(is_png | is_jpeg, decode, lambda: (nothing, tf.constant(_UNKNOWN)))


def _attempt(decoder: Callable[[tf.Tensor], tf.Tensor], content: tf.Tensor) -> tf.Tensor:
    """What `decoder` makes of `content`, uint8 [H, W, 3]; [0, 0, 3] where it fails.

    Otherwise it would fail the whole request with an error that does not name the image. A data set
    that ignores errors is the only way to continue in TensorFlow.
    """
    options = tf.data.Options()
    # Without these TensorFlow rewrites the data set's graph, which takes longer than to decode an
    # image; as does to set up a larger function than that of a decoder alone.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    dataset = tf.data.Dataset.from_tensors(content).map(decoder).ignore_errors()
    image = iter(dataset.with_options(options)).get_next_as_optional()
    return tf.cond(
        image.has_value(),
        lambda: tf.ensure_shape(image.get_value(), [None, None, 3]),
        lambda: tf.zeros([0, 0, 3], tf.uint8),
    )


def _as_adobe(content: tf.Tensor, header: Header) -> tf.Tensor:
    """Mark a JPEG of four channels as Adobe's, inverted, which is what Pillow takes all for."""
    unmarked = (header.channels == 4) & ~header.has_adobe_marker
    return tf.cond(
        unmarked,
        lambda: tf.strings.join(
            [tf.strings.substr(content, 0, 2), _ADOBE_MARKER, tf.strings.substr(content, 2, 2**30)]
        ),
        lambda: content,
    )


def _decode_jpeg(content: tf.Tensor) -> tf.Tensor:
    # libjpeg's defaults, which are Pillow's and not TensorFlow's.
    return tf.io.decode_jpeg(
        content, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True
    )


def _decode_png(content: tf.Tensor) -> tf.Tensor:
    depth_and_kind = tf.strings.substr(tf.strings.join([content, b"\0" * 32]), 24, 2)
    return tf.cond(
        tf.equal(depth_and_kind, b"\x10\x00"),
        lambda: _attempt(_decode_deep_grey_png, content),
        lambda: _attempt(functools.partial(tf.io.decode_png, channels=3), content),
    )


def _decode_deep_grey_png(content: tf.Tensor) -> tf.Tensor:
    # Pillow cuts 16 bits of grey alone off at 255; of everything else it takes the high byte.
    grey = tf.io.decode_png(content, channels=1, dtype=tf.uint16)
    grey = tf.cast(tf.minimum(tf.cast(grey, tf.int32), 255), tf.uint8)
    return tf.repeat(grey, 3, axis=2)
