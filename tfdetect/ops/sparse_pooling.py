"""Pooling of regions by a sparse matrix, in TensorFlow's operations."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfdetect.ops.backend import current_backend

# Regions treated together; it bounds the memory for the sampling weights.
_CHUNK = 256

# TensorFlow's product of a compressed matrix divides its rows between threads: with fewer than 20,
# or than three to a thread, it ends the process by dividing by zero.
_LEAST_ROWS = 4096

Shape = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def pool_by_matrix(
    features: tf.Tensor,
    count: tf.Tensor,
    bins: tuple[int, int],
    matrix: Callable[[slice, Shape], tf.SparseTensor],
    chunk: int = _CHUNK,
) -> tf.Tensor:
    """Every output bin is a weighted sum of feature-map pixels: one sparse matrix times the
    features. The matrix is made again for the gradient, which is of the features alone.

    Args:
        features: [B, H, W, C], float32, bfloat16 or float16; sums are float32 in every case.
        count: int32 [], R.
        bins: of a region, along y and x.
        matrix: given a slice of the regions and (B, H, W), float32 [regions * bins, B * H * W], its
            rows in order.
        chunk: how many regions it is asked for at a time.

    Returns:
        [R, bins y, bins x, C] in the type of `features`.
    """
    channels = features.shape[3]

    @tf.custom_gradient
    def pool(features: tf.Tensor):
        batch, height, width, depth = tf.unstack(tf.shape(features))
        locations = batch * height * width

        def of_chunk(start: tf.Tensor) -> tf.SparseTensor:
            return matrix(slice(start, start + chunk), (batch, height, width))

        def forward(start: tf.Tensor, out: tf.TensorArray):
            dense = tf.reshape(tf.cast(features, tf.float32), [locations, depth])
            pooled = _product(of_chunk(start), dense)
            return start + chunk, out.write(start // chunk, pooled)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            upstream = tf.reshape(tf.cast(upstream, tf.float32), [-1, bins[0] * bins[1], depth])

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
            return tf.cast(tf.reshape(total, tf.shape(features)), features.dtype)

        out = tf.TensorArray(
            tf.float32,
            size=tf.maximum((count + chunk - 1) // chunk, 1),
            element_shape=[None, channels],
            infer_shape=False,
        )
        # Even without a box there is one (empty) chunk: it gives the result its depth.
        _, out = tf.while_loop(
            lambda start, _: start < tf.maximum(count, 1),
            forward,
            [tf.constant(0), out],
            parallel_iterations=1,
        )
        pooled = tf.reshape(out.concat(), [count, *bins, depth])
        return tf.cast(pooled, features.dtype), gradient

    pooled = pool(features)
    return tf.ensure_shape(pooled, [None, *bins, channels])


def _product(matrix: tf.SparseTensor, dense: tf.Tensor) -> tf.Tensor:
    """float32 [M, C] of a matrix [M, N], rows in order, and `dense`, float32 [N, C]."""
    if current_backend().device != "cpu":
        return tf.sparse.sparse_dense_matmul(matrix, dense)
    # `sparse_dense_matmul` takes one thread, and three times as long there.
    rows, columns = tf.unstack(matrix.dense_shape)
    compressed = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=matrix.indices,
        values=matrix.values,
        dense_shape=tf.stack([tf.maximum(rows, _LEAST_ROWS), columns]),
    )
    return tf.raw_ops.SparseMatrixMatMul(a=compressed, b=dense)[:rows]
