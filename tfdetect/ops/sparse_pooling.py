"""Pooling of regions by a sparse matrix, in TensorFlow's operations."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfdetect.ops.shared_function import shared_function

# Regions treated together; it bounds the memory for the sampling weights.
_CHUNK = 256

# TensorFlow's product of a compressed matrix divides its rows between threads: with fewer than 20,
# or than three to a thread, it ends the process by dividing by zero.
_LEAST_ROWS = 4096

Shape = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def pool_by_matrix(
    features: tf.Tensor,
    count: tf.Tensor,
    bins: tf.Tensor,
    matrix: Callable[[slice, Shape], tf.SparseTensor],
    chunk: int = _CHUNK,
    *,
    on_cpu: bool,
) -> tf.Tensor:
    """Every output bin is a weighted sum of feature-map pixels: one sparse matrix times the
    features. The matrix is made again for the gradient, which is of the features alone.

    Args:
        features: float32 [B, H, W, C].
        count: int32 [], R.
        bins: int32 [2], of a region, along y and x.
        matrix: given a slice of the regions and (B, H, W), float32 [regions * bins, B * H * W], its
            rows in order.
        chunk: how many regions it is asked for at a time.
        on_cpu: whether it runs there.

    Returns:
        float32 [R, bins y, bins x, C].
    """

    @tf.custom_gradient
    def pool(features: tf.Tensor):
        batch, height, width, depth = tf.unstack(tf.shape(features))
        locations = batch * height * width
        dense = tf.reshape(features, [locations, depth])

        def of_chunk(start: tf.Tensor) -> tf.SparseTensor:
            return matrix(slice(start, start + chunk), (batch, height, width))

        def forward(start: tf.Tensor, out: tf.TensorArray):
            pooled = (_product if on_cpu else tf.sparse.sparse_dense_matmul)(of_chunk(start), dense)
            return start + chunk, out.write(start // chunk, pooled)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            upstream = tf.reshape(upstream, [-1, tf.reduce_prod(bins), depth])

            def backward(start: tf.Tensor, total: tf.Tensor):
                rows = tf.reshape(upstream[start : start + chunk], [-1, depth])
                return start + chunk, total + tf.sparse.sparse_dense_matmul(
                    of_chunk(start), rows, adjoint_a=True
                )

            _, total = tf.while_loop(
                lambda start, _: start < count,
                backward,
                [tf.constant(0), tf.zeros([locations, depth])],
                parallel_iterations=1,
            )
            return tf.reshape(total, tf.shape(features))

        out = tf.TensorArray(
            tf.float32,
            size=tf.maximum((count + chunk - 1) // chunk, 1),
            element_shape=[None, None],
            infer_shape=False,
        )
        # Even without a box there is one (empty) chunk: it gives the result its depth.
        _, out = tf.while_loop(
            lambda start, _: start < tf.maximum(count, 1),
            forward,
            [tf.constant(0), out],
            parallel_iterations=1,
        )
        return tf.reshape(out.concat(), tf.concat([[count], bins, [depth]], 0)), gradient

    return pool(features)


def shared_pooling(
    pool: Callable[..., tf.Tensor], box_dim: int, last: tf.TensorSpec
) -> Callable[..., tf.Tensor]:
    """`pool` as a function that a graph has once.

    Args:
        pool: takes float32 features [B, H, W, C], boxes [R, box_dim], int32 box indices [R], int32
            sizes (see `sizes_of_maps`), and what `last` describes.
    """
    signature = [
        tf.TensorSpec([None, None, None, None]),
        tf.TensorSpec([None, box_dim]),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None, 2], tf.int32),
        last,
    ]
    return shared_function(pool, signature)


def sizes_of_maps(sizes: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
    """int32 [B, 2], what of each of the features [B, H, W, C] is an image's own: `sizes` within the
    map, or all of it where `sizes` is [0, 2]."""
    shape = tf.shape(features)
    whole = tf.repeat(shape[None, 1:3], shape[0], axis=0)
    return tf.clip_by_value(tf.concat([sizes, whole], 0)[: shape[0]], 0, shape[1:3])


def _product(matrix: tf.SparseTensor, dense: tf.Tensor) -> tf.Tensor:
    """`sparse_dense_matmul`, which takes one thread on a CPU, and three times as long.

    Args:
        matrix: [M, N], rows in order.
        dense: float32 [N, C].
    """
    rows, columns = tf.unstack(matrix.dense_shape)
    compressed = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=matrix.indices,
        values=matrix.values,
        dense_shape=tf.stack([tf.maximum(rows, _LEAST_ROWS), columns]),
    )
    return tf.raw_ops.SparseMatrixMatMul(a=compressed, b=dense)[:rows]
