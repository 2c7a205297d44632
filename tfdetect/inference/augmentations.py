"""The augmented images of test-time augmentation, and where boxes are in them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.ops.resize import resize_bilinear_uint8, shortest_edge_size


class AugmentedImages:
    """One image, resized to several sizes and flipped.

    The image becomes the network's input as without augmentation (INPUT.MIN_SIZE_TEST), and the
    input is resized again to each of the sizes, as Detectron2's test loader and its
    `DatasetMapperTTA` do one after the other. With MIN_SIZE_TEST 0 the sizes are made from the
    image itself.

    Args:
        image: uint8 [H, W, 3].
        input_edges: INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
        min_sizes: of the shorter edge of each augmented image; 0 for the input as it is.
        max_size: of their longer edge.
        flip: whether each is followed by its mirror image.

    Attributes:
        count: how many there are, G.
        size, input_size: int32 [2], (height, width) of the image and of the input.
        sizes: int32 [G, 2], of the augmented images.
        flipped: bool [G], which are mirrored.
    """

    def __init__(
        self,
        image: tf.Tensor,
        *,
        input_edges: tuple[int, int],
        min_sizes: Sequence[int],
        max_size: int,
        flip: bool,
    ):
        flips = [False, True] if flip else [False]
        self.count = len(min_sizes) * len(flips)
        self.size = tf.shape(image)[:2]
        self.input_size = shortest_edge_size(self.size, *input_edges)
        self._input = resize_bilinear_uint8(image, self.input_size)
        sizes = augmented_sizes(self.input_size, min_sizes, max_size)
        self.sizes = tf.repeat(sizes, len(flips), axis=0)
        self.flipped = tf.constant(flips * len(min_sizes))

    def __getitem__(self, index: tf.Tensor) -> tf.Tensor:
        """The augmented image of an index, uint8 [height, width, 3]."""
        resized = resize_bilinear_uint8(self._input, self.sizes[index])
        return tf.cond(self.flipped[index], lambda: resized[:, ::-1], lambda: resized)

    def to_original(self, boxes: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        """Boxes float32 [M, 4], each in the augmented image of its index, in the image's pixels.

        Rounded to float32 after every step, as Detectron2's transforms are.
        """
        sizes = tf.gather(self.sizes, indices)
        flipped = tf.gather(self.flipped, indices)[:, None]
        boxes = tf.where(flipped, _mirror(boxes, sizes[:, 1]), boxes)
        boxes *= _scale(sizes, self.input_size)
        return boxes * _scale(self.input_size, self.size)

    def to_input(self, boxes: tf.Tensor) -> tf.Tensor:
        """Boxes float32 [N, 4] in the image's pixels, in the input's."""
        return boxes * _scale(self.size, self.input_size)

    def to_augmented(self, boxes: tf.Tensor) -> tf.Tensor:
        """Boxes float32 [N, 4] in the image's pixels, in every augmented image's: [G, N, 4]."""
        boxes = self.to_input(boxes) * _scale(self.input_size, self.sizes)[:, None]
        flipped = self.flipped[:, None, None]
        return tf.where(flipped, _mirror(boxes, self.sizes[:, 1, None]), boxes)

    def keypoints_to_original(self, keypoints: tf.Tensor) -> tf.Tensor:
        """Keypoints float32 [N, K, 3] of x, y and score in the input, in the image's pixels."""
        x_and_y = _scale(self.input_size, self.size)[:2]
        return keypoints * tf.concat([x_and_y, [1.0]], 0)


def augmented_sizes(input_sizes: tf.Tensor, min_sizes: Sequence[int], max_size: int) -> tf.Tensor:
    """The sizes of augmented images: int32 [len(min_sizes), ..., 2] of int32 [..., 2]."""
    return tf.stack([shortest_edge_size(input_sizes, edge, max_size) for edge in min_sizes])


def _scale(from_sizes: tf.Tensor, to_sizes: tf.Tensor) -> tf.Tensor:
    """float32 [..., 4], what boxes are multiplied by from images of one size to those of another.

    Both are int32 [..., 2].
    """
    ratio = tf.cast(to_sizes, tf.float64) / tf.cast(from_sizes, tf.float64)
    x_and_y = tf.cast(ratio, tf.float32)[..., ::-1]
    return tf.concat([x_and_y, x_and_y], -1)


def _mirror(boxes: tf.Tensor, widths: tf.Tensor) -> tf.Tensor:
    """Boxes float32 [..., 4] in the mirror images of images of int32 [...] widths."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    widths = tf.cast(widths, tf.float32)
    return tf.stack([widths - x2, y1, widths - x1, y2], -1)
