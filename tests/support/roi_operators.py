"""What holds for every operator that pools regions: RoIAlign, RoIPool, and of rotated boxes."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def check_nothing(pool, box_dim, images, traced):
    """Without boxes, with or without an image: nothing is pooled, and the gradient is zero."""

    def run(features, boxes, box_indices):
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = pool(features, boxes, box_indices, 7, 1 / 16)
        return pooled, tape.gradient(pooled, features)

    if traced:
        signature = [tf.TensorSpec([None, None, None, 4]), tf.TensorSpec([None, box_dim])]
        run = tf.function(
            run, input_signature=[*signature, tf.TensorSpec([None], tf.int32)], autograph=False
        )
    features = tf.ones([images, 20, 30, 4])
    pooled, gradient = run(features, tf.zeros([0, box_dim]), tf.zeros([0], tf.int32))
    assert pooled.shape == (0, 7, 7, 4)
    assert gradient.shape == features.shape
    assert not gradient.numpy().any()


def check_as_if_cut_out(pool, features, boxes, owners, sizes, arguments, *, atol):
    """Each image of a batch as if its map of `sizes` had been cut out, gradient included.

    Args:
        pool: called with (features, boxes, box indices, *arguments), and the sizes as the last.
        features: [B, H, W, C].
        boxes: [R, box_dim], of the images `owners` [R].
        sizes: int32 [B, 2], (height, width) of each image's map.
        arguments: of `pool`.
        atol: of the values, and of gradients relative to the largest.
    """
    upstream = tf.random.stateless_normal([len(boxes), 7, 7, features.shape[3]], [3, 4])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = pool(features, boxes, owners, *arguments, sizes)
    gradient = tape.gradient(pooled, features, upstream)
    for image, (height, width) in enumerate(sizes):
        alone = features[image : image + 1, :height, :width]
        here = owners == image
        with tf.GradientTape() as tape:
            tape.watch(alone)
            cut = pool(alone, boxes[here], np.zeros(here.sum(), np.int32), *arguments)
        np.testing.assert_allclose(tf.boolean_mask(pooled, here), cut, rtol=0, atol=atol)
        expected = np.zeros(features.shape[1:], np.float32)
        expected[:height, :width] = tape.gradient(cut, alone, tf.boolean_mask(upstream, here))[0]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradient[image], expected, rtol=0, atol=atol * scale)


def check_sums_in_float32(pool, features, rois, spatial_scale, dtype):
    """Only the inputs and the result are rounded: within an ulp of the float32 result.

    Args:
        pool: called with (features, boxes, box indices, bins, spatial scale).
        features: float32 [B, H, W, C].
        rois: [R, 1 + box_dim], the image of each box before it.
        spatial_scale: of the features.
        dtype: bfloat16 or float16.
    """
    narrow_features = tf.cast(features, dtype)
    args = (rois[:, 1:], rois[:, 0].astype(np.int32), 7, float(spatial_scale))
    narrow = pool(narrow_features, *args)
    wide = pool(tf.cast(narrow_features, tf.float32), *args)
    assert narrow.dtype == dtype
    ulp = 2.0**-8 if dtype == tf.bfloat16 else 2.0**-11
    np.testing.assert_allclose(tf.cast(narrow, tf.float32), wide, rtol=2 * ulp, atol=1e-6)
