"""Valid sizes: the part of each feature map that belongs to each image of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import tensorflow as tf

from tfdetect.ops.shared_function import shared_function


class ValidSizes:
    """The valid (height, width) of each image in a padded batch, measured from the top left corner.

    Feature maps of a single image end at its own padding; those of a batch continue to the size of
    the largest image. If every operator with a receptive field larger than one location treats the
    end of the valid part as the edge of the map, each image gets the result that it gets alone.
    `WHOLE` is for training, and for batches padded as in Detectron2: the whole map is valid for
    every image, and no operations are added.

    Args:
        sizes: int32 [B, 2], each at least 1 and not larger than the map, or None for all of it.
    """

    def __init__(self, sizes: tf.Tensor | None = None):
        self.sizes = sizes
        self._half: ValidSizes | None = None

    def strided(self, stride: int) -> ValidSizes:
        """The valid sizes after downsampling by `stride`, a power of two."""
        if self.sizes is None or stride == 1:
            return self
        # Cached, so that all layers at a resolution share them. Rounding up at every halving equals
        # rounding up once.
        if self._half is None:
            self._half = ValidSizes((self.sizes + 1) // 2)
        return self._half.strided(stride // 2)

    def zero_padding(self, x: tf.Tensor) -> tf.Tensor:
        """x [B, H, W, C] with zeros in the padding, which must be finite."""
        if self.sizes is None:
            return x
        y = _zero_padding(x.dtype)(x, self.sizes)
        y.set_shape(x.shape)
        return y

    def fill(self, x: tf.Tensor, value: float) -> tf.Tensor:
        """x [B, H, W, C] with `value` in the padding, whatever it holds."""
        if self.sizes is None:
            return x
        y = _fill(x.dtype)(x, self.sizes, tf.constant(value, x.dtype))
        y.set_shape(x.shape)
        return y

    def extend(self, x: tf.Tensor) -> tf.Tensor:
        """x [B, H, W, C] with each image's last valid row and column repeated into the padding."""
        if self.sizes is None:
            return x
        for axis in (0, 1):
            locations = tf.range(tf.shape(x)[1 + axis])
            own = tf.minimum(locations, self.sizes[:, axis, None] - 1)
            x = tf.gather(x, own, axis=1 + axis, batch_dims=1)
        return x

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        """The mean of float32 x [B, H, W, C] over each image's valid part: [B, 1, 1, C].

        One axis at a time: TensorFlow sums sequentially, and a float32 sum of half a million terms
        has a relative error of 1e-4.
        """
        if self.sizes is None:
            return tf.reduce_mean(tf.reduce_mean(x, 2, keepdims=True), 1, keepdims=True)
        sizes = tf.cast(self.sizes, x.dtype)[:, :, None, None, None]
        mean = tf.reduce_sum(self.zero_padding(x), 2, keepdims=True) / sizes[:, 1]
        return tf.reduce_sum(mean, 1, keepdims=True) / sizes[:, 0]


def padding_mask(x: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """bool [B, H, W, 1] of x [B, H, W, C]: true within each image's size, `sizes` being [B, 2]."""
    _, height, width, _ = tf.unstack(tf.shape(x))
    rows = tf.range(height) < sizes[:, :1]
    columns = tf.range(width) < sizes[:, 1:]
    return (rows[:, :, None] & columns[:, None])[..., None]


@functools.cache
def _zero_padding(dtype: tf.DType) -> Callable[..., tf.Tensor]:
    """`ValidSizes.zero_padding` for all maps of a type."""

    def zero_padding(x: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        nothing_beyond = tf.reduce_all(sizes == tf.shape(x)[1:3])
        return tf.cond(
            nothing_beyond, lambda: x, lambda: x * tf.cast(padding_mask(x, sizes), x.dtype)
        )

    signature = [tf.TensorSpec([None] * 4, dtype), tf.TensorSpec([None, 2], tf.int32)]
    return shared_function(zero_padding, signature)


@functools.cache
def _fill(dtype: tf.DType) -> Callable[..., tf.Tensor]:
    """`ValidSizes.fill` for all maps of a type."""
    signature = [
        tf.TensorSpec([None] * 4, dtype),
        tf.TensorSpec([None, 2], tf.int32),
        tf.TensorSpec([], dtype),
    ]
    return shared_function(
        lambda x, sizes, value: tf.where(padding_mask(x, sizes), x, value), signature
    )


class LevelSizes(ValidSizes):
    """Valid sizes of images whose features at some strides have other sizes than theirs rounded up.

    Args:
        sizes: of the images, as above.
        levels: int32 [B, 2] by stride; at twice the largest of these it is half, rounded up.
    """

    def __init__(self, sizes: tf.Tensor, levels: Mapping[int, tf.Tensor]):
        super().__init__(sizes)
        self._levels = {stride: ValidSizes(level) for stride, level in levels.items()}

    def strided(self, stride: int) -> ValidSizes:
        """The valid sizes of the features of this stride."""
        if stride == 1:
            return self
        below = max((known for known in self._levels if known <= stride), default=None)
        if below is None:
            return super().strided(stride)
        return self._levels[below].strided(stride // below)


WHOLE = ValidSizes()
