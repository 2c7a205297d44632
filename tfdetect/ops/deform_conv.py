"""Deformable convolution, version 1 and version 2 (modulated)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend


def deform_conv(
    x: tf.Tensor,
    offset: tf.Tensor,
    mask: tf.Tensor | None,
    weight: tf.Tensor,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    deformable_groups: int = 1,
) -> tf.Tensor:
    """Convolve with a kernel with taps displaced by offsets that differ for every output position.

    (Deformable ConvNets, Dai et al. 2017, and v2, Zhu et al. 2019; `torchvision.ops.deform_conv2d`
    and Detectron2's `DeformConv` and `ModulatedDeformConv`.) A tap reads by bilinear interpolation
    from a map that is zero outside; one with an offset of NaN reads zero. Differentiable once in
    `x`, `offset`, `mask` and `weight`; where the interpolation has a kink, at integer positions,
    the gradient is that to the right and below.

    Args:
        x: float32 [B, H, W, Cin].
        offset: float32 [B, h, w, G * kh * kw * 2] in pixels of `x`, where (h, w) is the size of the
            output; of each deformable group, of each tap in row order, (dy, dx).
        mask: float32 [B, h, w, G * kh * kw], a factor on what each tap reads; None for version 1.
        weight: float32 [kh, kw, Cin / groups, Cout].
        stride, padding, dilation: of the undisplaced taps, alike along both axes.
        groups: number of channel groups, as in grouped convolution.
        deformable_groups: G, number of parts of Cin with separate offsets (and masks).

    Returns:
        float32 [B, h, w, Cout].

    Raises:
        ValueError: if the channels do not fit each other.
        tf.errors.InvalidArgumentError: if `offset` or `mask` does not have the size of the output.
    """
    _check_channels(x, offset, mask, weight, groups, deformable_groups)
    if current_backend().native:
        return kernels.library().tfdetect_deform_conv(
            x=x,
            offset=offset,
            mask=tf.zeros([0, 0, 0, 0]) if mask is None else mask,
            weight=weight,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            deformable_groups=deformable_groups,
        )
    return _portable(x, offset, mask, weight, stride, padding, dilation, groups, deformable_groups)


def _check_channels(
    x: tf.Tensor,
    offset: tf.Tensor,
    mask: tf.Tensor | None,
    weight: tf.Tensor,
    groups: int,
    deformable_groups: int,
) -> None:
    kernel_height, kernel_width, inputs, outputs = weight.shape
    taps = deformable_groups * kernel_height * kernel_width
    expected = {
        "x": (x.shape[-1], inputs * groups),
        "offset": (offset.shape[-1], 2 * taps),
        "mask": (taps if mask is None else mask.shape[-1], taps),
    }
    for name, (channels, wanted) in expected.items():
        if channels != wanted:
            raise ValueError(
                f"{name} has {channels} channels, but {wanted} go with a weight of shape "
                f"{tuple(weight.shape)}, {groups} groups and {deformable_groups} deformable groups"
            )
    if outputs % groups or x.shape[-1] % deformable_groups:
        raise ValueError(
            f"{x.shape[-1]} and {outputs} channels do not divide into {groups} groups and "
            f"{deformable_groups} deformable groups"
        )


def _portable(
    x: tf.Tensor,
    offset: tf.Tensor,
    mask: tf.Tensor | None,
    weight: tf.Tensor,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    deformable_groups: int,
) -> tf.Tensor:
    """One tap at a time, forward and backward, so that memory does not grow with the kernel
    size."""
    kernel_height, kernel_width, inputs, outputs = weight.shape
    taps = kernel_height * kernel_width
    batch, height, width, _ = tf.unstack(tf.shape(x))
    height = _output_size(height, kernel_height, stride, padding, dilation)
    width = _output_size(width, kernel_width, stride, padding, dilation)
    for name, values in {"offset": offset, "mask": offset if mask is None else mask}.items():
        tf.debugging.assert_equal(
            tf.shape(values)[:3],
            tf.stack([batch, height, width]),
            message=f"deform_conv: {name} must have the size of the output",
        )
    # The tap first: it is what the loops run over.
    offset = _taps_first(offset, deformable_groups, taps, 2)
    weight = tf.reshape(weight, [taps, inputs, groups, outputs // groups])
    rows = tf.cast(tf.range(height) * stride - padding, tf.float32)[:, None]
    columns = tf.cast(tf.range(width) * stride - padding, tf.float32)[None, :]

    def convolve_tap(
        tap: tf.Tensor, x: tf.Tensor, offset: tf.Tensor, weight: tf.Tensor, *mask: tf.Tensor
    ) -> tf.Tensor:
        """The contribution of one tap to the output: [B, h, w, Cout]."""
        down = tf.cast(tap // kernel_width * dilation, tf.float32)
        right = tf.cast(tap % kernel_width * dilation, tf.float32)
        y = (rows + down)[:, :, None] + offset[..., 0]
        sampled = _bilinear(x, y, (columns + right)[:, :, None] + offset[..., 1])
        for factor in mask:
            sampled *= factor
        shape = tf.shape(sampled)[:3]
        grouped = tf.reshape(sampled, tf.concat([shape, [groups, inputs]], 0))
        out = tf.einsum("bhwgi,igo->bhwgo", grouped, weight)
        return tf.reshape(out, tf.concat([shape, [outputs]], 0))

    def of_tap(tap: tf.Tensor, per_tap: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        # Not a slice of six axes, nor below a product of so many: LiteRT knows five.
        return [tf.gather(values, tap) for values in per_tap]

    @tf.custom_gradient
    def convolve(x: tf.Tensor, *per_tap: tf.Tensor):
        def forward(tap: tf.Tensor, total: tf.Tensor):
            return [tap + 1, total + convolve_tap(tap, x, *of_tap(tap, per_tap))]

        _, y = tf.while_loop(
            lambda tap, _: tap < taps,
            forward,
            [tf.constant(0), tf.zeros([batch, height, width, outputs])],
            parallel_iterations=1,
            maximum_iterations=taps,
        )

        def gradient(upstream: tf.Tensor):
            def backward(tap: tf.Tensor, dx: tf.Tensor, arrays: list[tf.TensorArray]):
                sources = [x, *of_tap(tap, per_tap)]
                with tf.GradientTape() as tape:
                    tape.watch(sources)
                    out = convolve_tap(tap, *sources)
                first, *others = tape.gradient(out, sources, output_gradients=upstream)
                arrays = [a.write(tap, d) for a, d in zip(arrays, others, strict=True)]
                return [tap + 1, dx + first, arrays]

            _, dx, arrays = tf.while_loop(
                lambda tap, *_: tap < taps,
                backward,
                [
                    tf.constant(0),
                    tf.zeros_like(x),
                    [
                        tf.TensorArray(v.dtype, size=taps, element_shape=v.shape[1:])
                        for v in per_tap
                    ],
                ],
                parallel_iterations=1,
                maximum_iterations=taps,
            )
            return [dx, *(array.stack() for array in arrays)]

        return y, gradient

    masks = [] if mask is None else [_taps_first(mask, deformable_groups, taps, 1)]
    y = convolve(x, offset, weight, *masks)
    return tf.ensure_shape(y, [x.shape[0], *offset.shape[2:4], outputs])


def _output_size(
    size: tf.Tensor, kernel: int, stride: int, padding: int, dilation: int
) -> tf.Tensor:
    """The output size along an axis of length `size`, as in any convolution."""
    return tf.maximum((size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1, 0)


def _taps_first(values: tf.Tensor, deformable_groups: int, taps: int, size: int) -> tf.Tensor:
    """[B, h, w, G * taps * size] to [taps, B, h, w, G, size]."""
    shape = tf.concat([tf.shape(values)[:3], [deformable_groups, taps, size]], 0)
    return tf.transpose(tf.reshape(values, shape), [4, 0, 1, 2, 3, 5])


def _bilinear(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Read a map by bilinear interpolation; it is zero outside.

    Args:
        x: float32 [B, H, W, C].
        rows, columns: float32 [B, h, w, G], where each of G parts of the channels is read.

    Returns:
        float32 [B, h, w, G, C / G].
    """
    batch, height, width, _ = tf.unstack(tf.shape(x))
    parts = rows.shape[-1]
    # With a zero border every corner of every sample lies inside the map: a sample in [-1, H] has
    # corners in -1 .. H + 1, and samples further out are moved to where they read zero.
    x = tf.pad(x, [[0, 0], [1, 2], [1, 2], [0, 0]])
    locations = tf.reshape(x, [-1, x.shape[-1] // parts])

    def corners(position: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        position = tf.where(tf.math.is_nan(position), -1.0, position)
        position = tf.clip_by_value(position, -1.0, tf.cast(size, tf.float32))
        low = tf.math.floor(position)
        fraction = position - low
        return tf.cast(low, tf.int32) + 1, tf.stack([1.0 - fraction, fraction], -1)

    row, row_weights = corners(rows, height)
    column, column_weights = corners(columns, width)
    image = tf.reshape(tf.range(batch), [-1, 1, 1, 1])
    first = ((image * (height + 3) + row) * (width + 3) + column) * parts + tf.range(parts)
    steps = tf.stack([0, 1, width + 3, width + 4]) * parts
    values = tf.gather(locations, first[..., None] + steps)
    weights = row_weights[..., :, None] * column_weights[..., None, :]
    depth = locations.shape[1]
    read = tf.matmul(tf.reshape(weights, [-1, 1, 4]), tf.reshape(values, [-1, 4, depth]))
    return tf.reshape(read, tf.concat([tf.shape(rows), [depth]], 0))
