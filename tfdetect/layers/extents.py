"""How far each image of a batch reaches into the feature maps, so that no other one matters."""

from __future__ import annotations

import tensorflow as tf


class Extents:
    """The top left (height, width) of a map that is each image's own; what lies beyond is not.

    The maps of an image alone end with its own padding; those of a batch go on. Where an operator
    that looks at more than one cell treats what lies beyond as the edge of the map, every image
    gets what it gets alone. `WHOLE` is the extents of training, and of a batch as Detectron2 has
    it: everything belongs to every image, and no operation is added.

    Args:
        sizes: int32 [B, 2], each at least 1 and not larger than the map, or None for all of it.
    """

    def __init__(self, sizes: tf.Tensor | None = None):
        self.sizes = sizes
        self._half: Extents | None = None
        self._inside: tf.Tensor | None = None
        self._nothing_beyond: tf.Tensor | None = None

    def strided(self, stride: int) -> Extents:
        """Those of a map with a cell for `stride` by `stride` of these; a power of two."""
        if self.sizes is None or stride == 1:
            return self
        # Once for all layers at a resolution: they share the mask. Rounding up at every halving
        # is rounding up once.
        if self._half is None:
            self._half = Extents((self.sizes + 1) // 2)
        return self._half.strided(stride // 2)

    def keep(self, x: tf.Tensor) -> tf.Tensor:
        """x [B, H, W, C] with zeros beyond; what is there has to be finite."""
        if self.sizes is None:
            return x
        if self._nothing_beyond is None:
            self._nothing_beyond = tf.reduce_all(self.sizes == tf.shape(x)[1:3])
        # A product may reuse the memory of x, which tf.where does not.
        mask = self._mask(x)
        return tf.cond(self._nothing_beyond, lambda: x, lambda: x * tf.cast(mask, x.dtype))

    def fill(self, x: tf.Tensor, value: float) -> tf.Tensor:
        """x [B, H, W, C] with `value` beyond, whatever is there."""
        return x if self.sizes is None else tf.where(self._mask(x), x, tf.cast(value, x.dtype))

    def extend(self, x: tf.Tensor) -> tf.Tensor:
        """x [B, H, W, C] with the last row and column of each image repeated beyond it."""
        if self.sizes is None:
            return x
        for axis in (0, 1):
            cells = tf.range(tf.shape(x)[1 + axis])
            own = tf.minimum(cells, self.sizes[:, axis, None] - 1)
            x = tf.gather(x, own, axis=1 + axis, batch_dims=1)
        return x

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        """The mean of float32 x [B, H, W, C] over each image's cells: [B, 1, 1, C].

        One axis after the other: TensorFlow adds up in a row, and in float32 a sum of half a
        million terms is off by 1e-4 of itself.
        """
        if self.sizes is None:
            return tf.reduce_mean(tf.reduce_mean(x, 2, keepdims=True), 1, keepdims=True)
        sizes = tf.cast(self.sizes, x.dtype)[:, :, None, None, None]
        mean = tf.reduce_sum(self.keep(x), 2, keepdims=True) / sizes[:, 1]
        return tf.reduce_sum(mean, 1, keepdims=True) / sizes[:, 0]

    def _mask(self, x: tf.Tensor) -> tf.Tensor:
        """bool [B, H, W, 1], true for each image's own cells."""
        assert self.sizes is not None
        if self._inside is None:
            rows = tf.range(tf.shape(x)[1]) < self.sizes[:, :1]
            columns = tf.range(tf.shape(x)[2]) < self.sizes[:, 1:]
            self._inside = (rows[:, :, None] & columns[:, None])[..., None]
        return self._inside


WHOLE = Extents()
