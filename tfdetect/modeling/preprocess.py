"""Preprocessing: from uint8 images of any size to the network's input, inside the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.errors import InputError
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import ValidSizes
from tfdetect.modeling.conventions import conventions
from tfdetect.ops.resize import resize_bilinear_uint8, shortest_edge_size
from tfdetect.ops.shapes import pad_to_multiple

MOST_PIXELS = 2**26
"""Of one image in the network's input (8192 x 8192): its features would be tens of gigabytes."""

ReadImage = Callable[[tf.Tensor], tf.Tensor]
"""Gives the image of an index, [height, width, 3]."""


class Preprocessor:
    """Resize, normalise and pad as Detectron2 does at test time.

    `ResizeShortestEdge` with INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST, (x - PIXEL_MEAN) / PIXEL_STD,
    then zeros at the right and the bottom (`GeneralizedRCNN.preprocess_image`). With other
    MODEL.CONVENTIONS their sizes, and torchvision's filter.

    Args:
        min_size: of the shorter edge, in pixels; 0 for the image's own size.
        max_size: of the longer edge, at the shorter one's expense.
        pixel_mean, pixel_std: of each channel, in the order of `image_format`.
        size_divisibility: height and width of the batch become multiples of this.
        square: every image becomes a square of this side, and may not be longer.
        image_format: the order of the network's channels, "BGR" or "RGB".
        resize: whose size rule and filter, see `Conventions`.

    Raises:
        InputError: there is no such format.
    """

    def __init__(
        self,
        min_size: int,
        max_size: int,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int,
        square: bool = False,
        image_format: str = "BGR",
        resize: str = "detectron2",
    ):
        if image_format not in ("BGR", "RGB"):
            raise InputError(f"INPUT.FORMAT: {image_format!r} is not supported; use BGR or RGB")
        self._reverse_channels = image_format == "RGB"
        self._resized_type = tf.float32 if resize in ("torchvision", "tensorpack") else tf.uint8
        self._size = (min_size, max_size, resize)
        # Where the sizes themselves keep images small nobody need look at those of the images.
        self._bounded = min_size > 0 and (max_size + size_divisibility) ** 2 <= MOST_PIXELS
        if square:
            self._bounded = min_size > 0 and max_size <= size_divisibility
        self._square = square
        self._mean = list(pixel_mean)
        self._std = list(pixel_std)
        self._divisibility = size_divisibility

    @classmethod
    def from_config(cls, cfg: CfgNode, size_divisibility: int) -> Preprocessor:
        """From INPUT, MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and MODEL.CONVENTIONS."""
        return cls(
            cfg.INPUT.MIN_SIZE_TEST,
            cfg.INPUT.MAX_SIZE_TEST,
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            pixel_std=cfg.MODEL.PIXEL_STD,
            size_divisibility=size_divisibility,
            square=cfg.MODEL.BACKBONE.SQUARE_PAD > 0,
            image_format=cfg.INPUT.FORMAT,
            resize=conventions(cfg).resize,
        )

    @profile_scope("preprocess")
    def __call__(self, images: tf.Tensor, sizes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Prepare a batch.

        Args:
            images: uint8 [B, H, W, 3] BGR; each image lies in the top left corner.
            sizes: int32 [B, 2], (height, width) of each image.

        Returns:
            float32 [B, H', W', 3] in INPUT.FORMAT's channel order, and int32 [B, 2], the size of
            each image after resizing.

        Raises:
            tf.errors.InvalidArgumentError: when it runs, if [H', W'] is more than MOST_PIXELS, or a
                resized image longer than the square.
        """
        return self._of_each(*images_of_batch(images, sizes))

    @profile_scope("preprocess")
    def of_pixels(self, pixels: tf.Tensor, sizes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The same for images stored one after the other, without padding.

        Args:
            pixels: uint8 [P, 3] BGR, the pixels of all images, row by row.
            sizes: int32 [B, 2], (height, width) of each image.

        Returns, raises:
            As `__call__`.
        """
        return self._of_each(*images_of_pixels(pixels, sizes))

    def network_sizes(self, sizes: np.ndarray) -> np.ndarray:
        """int32 [B, 2], what images of such (height, width) are in the network's input, alone."""
        if self._square:
            return np.full_like(sizes, self._divisibility)
        resized_sizes = shortest_edge_size(tf.constant(sizes), *self._size)
        return padded_sizes(resized_sizes, self._divisibility).numpy()

    def check(self, sizes: np.ndarray, numbers: Sequence[int]) -> None:
        """Raise InputError if images of int32 [B, 2] sizes would be too large a batch, or one of
        them is longer than the square. `numbers` are those by which the error names them."""
        if self._bounded or len(sizes) == 0:
            return
        resized_sizes = shortest_edge_size(tf.constant(sizes), *self._size)
        if self._square:
            self._check_squares(sizes, resized_sizes.numpy(), numbers)
        height, width = padded_size(resized_sizes, self._divisibility).numpy().tolist()
        if height * width > MOST_PIXELS:
            largest = int(np.argmax(np.prod(resized_sizes.numpy().astype(np.int64), axis=1)))
            shape = " x ".join(map(str, sizes[largest].tolist()))
            raise InputError(
                f"image {numbers[largest]}: {shape} pixels are {height} x {width} in the network's "
                f"input (with the rest of its batch), more than {MOST_PIXELS}; give smaller "
                "images, fewer at a time, or set INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST to less"
            )

    def _check_squares(
        self, sizes: np.ndarray, resized_sizes: np.ndarray, numbers: Sequence[int]
    ) -> None:
        longest = int(np.argmax(resized_sizes.max(1)))
        if resized_sizes[longest].max() > self._divisibility:
            (height, width), resized = sizes[longest].tolist(), resized_sizes[longest].tolist()
            raise InputError(
                f"image {numbers[longest]}: {height} x {width} pixels are {resized[0]} x "
                f"{resized[1]} after resizing, longer than the square of MODEL.BACKBONE.SQUARE_PAD "
                f"({self._divisibility}); set INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST to less"
            )

    def _of_each(self, read: ReadImage, sizes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`read` gives image number `index`, uint8 [height, width, 3] BGR.

        Each is resized before it is padded, so that memory goes by the network's sizes: one image
        of 1 x 20000 pixels and one of 20000 x 1 are small there.
        """
        resized_sizes = shortest_edge_size(sizes, *self._size)
        batch = self.of_resized(lambda index, size: self._resize(read(index), size), resized_sizes)
        return batch, resized_sizes

    def of_resized(
        self, read: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], resized_sizes: tf.Tensor
    ) -> tf.Tensor:
        """The network's input from images that are resized already.

        Args:
            read: gives image number `index`, of `size`, [height, width, 3] BGR.
            resized_sizes: int32 [B, 2], (height, width) of each image.

        Returns, raises:
            As `__call__`, without the sizes.
        """
        # The side of squares is known before there are images, and of a batch of none.
        side = self._divisibility if self._square else None
        padded = padded_size(resized_sizes, self._divisibility)
        if side:
            padded = tf.constant([side, side])
        if not self._bounded:
            fits = tf.reduce_prod(tf.cast(padded, tf.int64)) <= MOST_PIXELS
            complaint = f"the resized images are more than {MOST_PIXELS} pixels; send smaller ones"
            if side:
                fits = tf.reduce_all(resized_sizes <= side)
                complaint = f"a resized image is longer than {side} pixels"
            with tf.control_dependencies([tf.debugging.Assert(fits, [complaint, padded])]):
                padded = tf.identity(padded)

        def prepare(arguments: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image = read(*arguments)
            if self._reverse_channels:
                image = image[..., ::-1]
            return tf.ensure_shape(pad_bottom_right(image, padded), [side, side, 3])

        batch = tf.map_fn(
            prepare,
            (tf.range(tf.shape(resized_sizes)[0]), resized_sizes),
            fn_output_signature=tf.TensorSpec([side, side, 3], self._resized_type),
        )
        # Last, because float32 pixels are four times as large: one copy of them, in all.
        batch = normalize_pixels(batch, self._mean, self._std)
        return ValidSizes(resized_sizes).zero_padding(batch)

    @profile_scope("preprocess")
    def of_one_size(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The same for images of one known size, uint8 [B, H, W, 3], with static shapes."""
        batch, height, width, _ = images.shape
        if self._reverse_channels:
            images = images[..., ::-1]
        with tf.init_scope():
            sizes = tf.constant([[height, width]] * batch)
            resized_sizes = shortest_edge_size(sizes, *self._size).numpy()
            if self._square:
                self._check_squares(sizes.numpy(), resized_sizes, range(batch))
            padded = padded_size(resized_sizes, self._divisibility).numpy()
        prepared = []
        for image in tf.unstack(images):
            resized = self._resize(image, resized_sizes[0])
            normalized = normalize_pixels(resized, self._mean, self._std)
            prepared.append(pad_bottom_right(normalized, padded))
        return tf.stack(prepared), tf.constant(resized_sizes)

    def _resize(self, image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """uint8 [H, W, 3] -> [h, w, 3], `_resized_type`."""
        if self._resized_type == tf.uint8:
            return resize_bilinear_uint8(image, size)
        # Of float pixels, between their centres, also where the image becomes smaller.
        return tf.image.resize(tf.cast(image, tf.float32), size, "bilinear")


def images_of_batch(images: tf.Tensor, sizes: tf.Tensor) -> tuple[ReadImage, tf.Tensor]:
    """A function that gives one image of [B, H, W, 3], and int32 [B, 2] `sizes` as a tensor.

    Each image lies in the top left corner and is of its own size.
    """
    images, sizes = tf.convert_to_tensor(images), tf.convert_to_tensor(sizes)

    def read(index: tf.Tensor) -> tf.Tensor:
        size = sizes[index]
        return images[index, : size[0], : size[1]]

    return read, sizes


def images_of_pixels(pixels: tf.Tensor, sizes: tf.Tensor) -> tuple[ReadImage, tf.Tensor]:
    """The same of images stored one after the other: [P, 3], the pixels of all, row by row."""
    areas = tf.reduce_prod(tf.cast(sizes, tf.int64), 1)
    starts = tf.cumsum(areas, exclusive=True)

    def read(index: tf.Tensor) -> tf.Tensor:
        start, size = starts[index], sizes[index]
        return tf.reshape(pixels[start : start + areas[index]], [size[0], size[1], 3])

    return read, sizes


def normalize_pixels(pixels: tf.Tensor, mean: Sequence[float], std: Sequence[float]) -> tf.Tensor:
    """(x - mean) / std in float32, of pixels [..., 3] of any type; both of each channel."""
    return (tf.cast(pixels, tf.float32) - list(mean)) / list(std)


def normalize_batch(
    images: tf.Tensor,
    sizes: tf.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    size_divisibility: int,
) -> tf.Tensor:
    """The network's input in training: Detectron2's `GeneralizedRCNN.preprocess_image`.

    Args:
        images: uint8 [B, H, W, 3] in INPUT.FORMAT's order, each in the top left corner.
        sizes: int32 [B, 2], (height, width) of each.
        mean, std: of each channel.
        size_divisibility: the model's.

    Returns:
        float32 [B, H', W', 3], (x - mean) / std and zero beyond each image; H' and W' are H and W
        rounded up to multiples.
    """
    values = normalize_pixels(images, mean, std)
    return pad_to_multiple(ValidSizes(sizes).fill(values, 0.0), size_divisibility)


def padded_size(sizes: tf.Tensor, divisibility: int) -> tf.Tensor:
    """The size that images of int32 [B, 2] sizes are padded to together (`ImageList.from_tensors`).

    Returns:
        int32 [2]: the largest height and the largest width, rounded up to multiples.
    """
    return tf.reduce_max(padded_sizes(sizes, divisibility), 0)


def padded_sizes(sizes: tf.Tensor, divisibility: int) -> tf.Tensor:
    """The sizes that images of int32 [B, 2] sizes are padded to alone: up to the next multiples."""
    return (sizes + divisibility - 1) // divisibility * divisibility


def pad_bottom_right(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Zeros below and to the right of an [H, W, C] image, up to int32 [2] `size`."""
    beyond = size - tf.shape(image)[:2]
    return tf.pad(image, [[0, beyond[0]], [0, beyond[1]], [0, 0]])
