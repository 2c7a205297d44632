"""Positions in transformers: absolute ones, and relative ones decomposed into two axes.

Sizes are integers where they are known when a graph is made: then what depends on them alone
(weights of an interpolation, indices) are constants of the graph. Otherwise they are int32 tensors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from tfdetect.layers.valid_sizes import ValidSizes
from tfdetect.ops.bicubic import bicubic_weights
from tfdetect.ops.shapes import lengths

_NONE = -1e30
Size: TypeAlias = int | tf.Tensor
"""A length in tokens: an int, or an int32 scalar."""


def get_abs_pos(pos_embed: tf.Tensor, has_cls_token: bool, height: Size, width: Size) -> tf.Tensor:
    """The absolute positions of a grid of tokens (Detectron2's function of this name).

    The table of a square grid is interpolated, bicubically and without antialiasing, where it is
    not of this size.

    Args:
        pos_embed: [1, N, C], row by row; N is a square, plus 1 with a class token.
        has_cls_token: whether the first row is that of a class token, which is left out.
        height, width: of the grid.

    Returns:
        [1, height, width, C], of the type of `pos_embed`.
    """
    table = pos_embed[:, 1:] if has_cls_token else pos_embed
    side = math.isqrt(table.shape[1])
    table = tf.reshape(table, [side, side, -1])
    if not (_are_known(height, width) and height == width == side):
        rows, columns = (_made_once(_bicubic, side, length) for length in (height, width))
        table = resize_table(table, tf.cast(rows, table.dtype), tf.cast(columns, table.dtype))
    return table[None]


def get_abs_pos_of_each(
    pos_embed: tf.Tensor, has_cls_token: bool, sizes: tf.Tensor, height: Size, width: Size
) -> tf.Tensor:
    """`get_abs_pos` of the images of a batch, each of the size that it has without padding.

    Args:
        pos_embed, has_cls_token: as there.
        sizes: int32 [B, 2], (height, width) of each image in tokens.
        height, width: of the grid of the batch.

    Returns:
        [B, height, width, C]; beyond an image's own size, anything finite.
    """
    table = pos_embed[:, 1:] if has_cls_token else pos_embed
    side = math.isqrt(table.shape[1])
    table = tf.reshape(table, [side, side, -1])
    rows, columns = (
        bicubic_weights(tf.constant(side), sizes[:, axis], tf.range(length))
        for axis, length in enumerate((height, width))
    )
    return resize_table(table, tf.cast(rows, table.dtype), tf.cast(columns, table.dtype))


def add_abs_pos(
    x: tf.Tensor, pos_embed: tf.Tensor, has_cls_token: bool, tokens: ValidSizes
) -> tf.Tensor:
    """x [B, H, W, C] plus the absolute positions of its tokens.

    Args:
        x: the tokens.
        pos_embed, has_cls_token: of `get_abs_pos`.
        tokens: the valid sizes of x: an image of a batch gets what it gets alone.
    """
    _, height, width, _ = lengths(x)
    if tokens.sizes is None:
        positions = get_abs_pos(pos_embed, has_cls_token, height, width)
    else:
        positions = get_abs_pos_of_each(pos_embed, has_cls_token, tokens.sizes, height, width)
    return x + tf.cast(positions, x.dtype)


def resize_table(table: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """[h, w, C] as [..., H, W, C], by the matrices [..., H, h] and [..., W, w]."""
    height, width, channels = table.shape
    tall = tf.linalg.matmul(rows, tf.reshape(table, [height, width * channels]))
    shape = tf.concat([tf.shape(tall)[:-1], [width, channels]], 0)
    return tf.linalg.matmul(columns[..., None, :, :], tf.reshape(tall, shape))


def get_rel_pos(q_size: Size, k_size: Size, rel_pos: tf.Tensor) -> tf.Tensor:
    """The relative positions between queries and keys along an axis (Detectron2's `get_rel_pos`).

    The table is interpolated linearly where it is not of the length 2 max(q_size, k_size) - 1; of
    queries and keys, the fewer count as so much further apart.

    Args:
        q_size, k_size: how many queries and keys there are along the axis.
        rel_pos: [L, C].

    Returns:
        [q_size, k_size, C], of the type of `rel_pos`.
    """
    length = rel_pos.shape[0]
    if not (_are_known(q_size, k_size) and length == 2 * max(q_size, k_size) - 1):
        low, high, share = (_made_once(part, length, q_size, k_size) for part in _PARTS)
        share = tf.cast(share, rel_pos.dtype)[:, None]
        rel_pos = tf.gather(rel_pos, low) * (1 - share) + tf.gather(rel_pos, high) * share
    return tf.gather(rel_pos, _made_once(relative_index, q_size, k_size))


def get_rel_pos_of_each(
    q_sizes: tf.Tensor, k_sizes: tf.Tensor, q_length: Size, k_length: Size, rel_pos: tf.Tensor
) -> tf.Tensor:
    """`get_rel_pos` of the images of a batch, each of the size that it has without padding.

    Args:
        q_sizes, k_sizes: int32 [B], how many queries and keys of each image there are.
        q_length, k_length: of the batch.
        rel_pos: [L, C].

    Returns:
        [B, q_length, k_length, C]; beyond an image's own size, anything finite.
    """
    q_sizes, k_sizes = q_sizes[:, None, None], k_sizes[:, None, None]
    index = _index(q_sizes, k_sizes, q_length, k_length)
    low, high, share = _taps(rel_pos.shape[0], q_sizes, k_sizes, tf.maximum(index, 0))
    share = tf.cast(share, rel_pos.dtype)[..., None]
    return tf.gather(rel_pos, low) * (1 - share) + tf.gather(rel_pos, high) * share


def padding_logits(sizes: tf.Tensor, length: Size, dtype: tf.DType) -> tf.Tensor:
    """What is added to logits so that keys beyond an image's own size do not take part.

    Args:
        sizes: int32 [B], how many keys of each image there are along an axis.
        length: how many there are in the batch.
        dtype: of the logits.

    Returns:
        [B, 1, 1, length], zero and, beyond the size, so low that its exponential is zero; finite,
        since that of both axes is added.
    """
    beyond = tf.range(length) >= sizes[:, None]
    return tf.where(beyond, tf.cast(_NONE, dtype), tf.cast(0, dtype))[:, None, None]


def decomposed_rel_pos(
    query: tf.Tensor,
    rel_pos_h: tf.Tensor,
    rel_pos_w: tf.Tensor,
    q_size: Sequence[Size],
    k_size: Sequence[Size],
) -> tuple[tf.Tensor, tf.Tensor]:
    """What relative positions add to the logits of attention: `rel_h` and `rel_w` of `attention`.

    Logits are rel_h[..., :, None] + rel_w[..., None, :] higher (Detectron2:
    `add_decomposed_rel_pos`).

    Args:
        query: [B, qh * qw, heads, D], not scaled.
        rel_pos_h, rel_pos_w: [L, D], the tables of both axes; see `get_rel_pos`.
        q_size, k_size: (height, width) of the grids of queries and keys.

    Returns:
        [B, qh * qw, heads, kh] and [B, qh * qw, heads, kw].
    """
    return relative_logits(
        query,
        get_rel_pos(q_size[0], k_size[0], rel_pos_h),
        get_rel_pos(q_size[1], k_size[1], rel_pos_w),
    )


def relative_logits(
    query: tf.Tensor, of_rows: tf.Tensor, of_columns: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """`decomposed_rel_pos` of what `get_rel_pos` gives for the axes.

    Args:
        query: [B, qh * qw, heads, D].
        of_rows: [qh, kh, D], or [B, qh, kh, D] where images differ.
        of_columns: [qw, kw, D], or [B, qw, kw, D].
    """
    heads, channels = query.shape[2:]
    q_height, q_width = tf.shape(of_rows)[-3], tf.shape(of_columns)[-3]
    k_height, k_width = tf.shape(of_rows)[-2], tf.shape(of_columns)[-2]
    of_rows, of_columns = (tf.cast(table, query.dtype) for table in (of_rows, of_columns))
    # Of each row of queries, and then of each column, one matrix product.
    rows = tf.reshape(query, [-1, q_height, q_width * heads, channels])
    rel_h = tf.linalg.matmul(rows, of_rows, transpose_b=True)
    grid = tf.reshape(query, [-1, q_height, q_width, heads, channels])
    columns = tf.reshape(
        tf.transpose(grid, [0, 2, 1, 3, 4]), [-1, q_width, q_height * heads, channels]
    )
    rel_w = tf.linalg.matmul(columns, of_columns, transpose_b=True)
    rel_w = tf.reshape(rel_w, [-1, q_width, q_height, heads, k_width])
    tokens = q_height * q_width
    return (
        tf.reshape(rel_h, [-1, tokens, heads, k_height]),
        tf.reshape(tf.transpose(rel_w, [0, 2, 1, 3, 4]), [-1, tokens, heads, k_width]),
    )


def added_logits(
    query: tf.Tensor,
    tables: Sequence[tf.Tensor | None],
    q_size: Sequence[Size],
    k_size: Sequence[Size],
    of_queries: ValidSizes,
    of_keys: ValidSizes,
) -> tuple[tf.Tensor, tf.Tensor] | tuple[None, None]:
    """`rel_h` and `rel_w` of `attention`: relative positions, and that keys beyond an image's own
    size do not take part.

    Args:
        query: [B, qh * qw, heads, D], not scaled.
        tables: `rel_pos_h` and `rel_pos_w` of `decomposed_rel_pos`; None: no relative positions.
        q_size, k_size: (height, width) of the grids of queries and keys.
        of_queries, of_keys: their valid sizes.

    Returns:
        [B, qh * qw, heads, kh] and [B, qh * qw, heads, kw]; None where there is nothing to add.
    """
    if of_keys.sizes is None:
        if tables[0] is None:
            return None, None
        return decomposed_rel_pos(query, tables[0], tables[1], q_size, k_size)
    own_k = tf.unstack(of_keys.sizes, axis=1)
    masks = [padding_logits(own, n, query.dtype) for own, n in zip(own_k, k_size, strict=True)]
    if tables[0] is None:
        shape = tf.shape(query)[:3]
        rel_h, rel_w = (
            tf.broadcast_to(mask, tf.concat([shape, [n]], 0))
            for mask, n in zip(masks, k_size, strict=True)
        )
        return rel_h, rel_w
    own_q = tf.unstack(of_queries.sizes, axis=1)
    of_axes = [
        get_rel_pos_of_each(*of_axis)
        for of_axis in zip(own_q, own_k, q_size, k_size, tables, strict=True)
    ]
    rel_h, rel_w = relative_logits(query, *of_axes)
    return rel_h + masks[0], rel_w + masks[1]


def relative_index(q_size: Size, k_size: Size) -> tf.Tensor:
    """For each query and key, the row of the table of 2 max(q_size, k_size) - 1: int32 [q, k]."""
    return _index(q_size, k_size, q_size, k_size)


def _index(q_size: Size, k_size: Size, q_length: Size, k_length: Size) -> tf.Tensor:
    """int32 [..., q_length, k_length], sizes being scalars or [..., 1, 1].

    Computed in float32 and truncated, as Detectron2 does.
    """
    # Quotients in float64: Python's there.
    q, k = tf.cast(q_size, tf.float64), tf.cast(k_size, tf.float64)
    of_query, of_key = tf.maximum(k / q, 1.0), tf.maximum(q / k, 1.0)
    queries = tf.cast(tf.range(q_length), tf.float32)[:, None] * tf.cast(of_query, tf.float32)
    keys = tf.cast(tf.range(k_length), tf.float32) * tf.cast(of_key, tf.float32)
    most = tf.cast((k - 1.0) * of_key, tf.float32)
    return tf.cast(queries - keys + most, tf.int32)


def _bicubic(old: Size, new: Size) -> tf.Tensor:
    """The matrix of `get_abs_pos` along an axis, float32 [new, old]; of one size, the identity."""
    return bicubic_weights(tf.constant(old), tf.convert_to_tensor(new), tf.range(new))


def _taps(
    old: int, q_size: Size, k_size: Size, rows: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of rows of the table of 2 max(q_size, k_size) - 1, the two of the table of `old` rows that
    they are between, and the share of the second (torch.nn.functional.interpolate, "linear")."""
    scale = tf.cast(old, tf.float32) / tf.cast(2 * tf.maximum(q_size, k_size) - 1, tf.float32)
    position = tf.maximum((tf.cast(rows, tf.float32) + 0.5) * scale - 0.5, 0.0)
    low = tf.minimum(tf.cast(position, tf.int32), old - 1)
    share = tf.minimum(position - tf.cast(low, tf.float32), 1.0)
    return low, tf.minimum(low + 1, old - 1), share


def _of_all_rows(part: int, old: int, q_size: Size, k_size: Size) -> tf.Tensor:
    return _taps(old, q_size, k_size, tf.range(2 * tf.maximum(q_size, k_size) - 1))[part]


_PARTS = tuple(functools.partial(_of_all_rows, part) for part in range(3))


def _are_known(*sizes: Size) -> bool:
    return all(isinstance(size, int) for size in sizes)


def _made_once(make: Callable[..., tf.Tensor], *sizes: Size) -> np.ndarray | tf.Tensor:
    """make(*sizes), as a constant of the graph where the sizes are known."""
    return _constant(make, *sizes) if _are_known(*sizes) else make(*sizes)


@functools.lru_cache(maxsize=256)
def _constant(make: Callable[..., tf.Tensor], *sizes: int) -> np.ndarray:
    with tf.init_scope(), tf.device("CPU:0"):
        return make(*sizes).numpy()
