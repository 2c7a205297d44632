"""Swin's windows, every second time shifted by half of one, as indices of tokens.

The map is padded to whole windows and rolled by the shift, so that the last row and column of
windows hold what was not adjacent before, and that is kept apart by masks. Here nothing is moved
for that: each window is gathered from where its tokens are, and gathered back.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdetect.layers.valid_sizes import ValidSizes
from tfdetect.ops.shapes import lengths

_APART = -100.0


class WindowGroup(NamedTuple):
    """Windows of a batch that have the same mask.

    Attributes:
        mask: float32 [w * w, w * w], what is added to the logits of query and key, or None.
        tokens: int32 [n, w * w], indices into all tokens of the batch, image by image. Each image
            has one more at its end: of zeros, which windows are filled with beyond the map.
    """

    mask: np.ndarray | None
    tokens: tf.Tensor


class Windows(NamedTuple):
    """The windows of a batch of maps.

    Attributes:
        groups: all windows.
        places: int32 [B, H * W], where each token is in the windows of all groups, one after the
            other. Beyond an image's own size, anywhere.
    """

    groups: list[WindowGroup]
    places: tf.Tensor


def make_windows(x: tf.Tensor, tokens: ValidSizes, window_size: int, shift: int) -> Windows:
    """The windows of x [B, H, W, C], whose valid sizes are `tokens`.

    Where height and width are known, and the whole of them is valid, they are constants but for
    what the number of images adds.

    Args:
        x: maps.
        tokens: their valid sizes: an image of a batch has the windows that it has alone.
        window_size: w, the side of a window.
        shift: by how many locations windows are shifted down and to the right, less than w.
    """
    batch, height, width, _ = lengths(x)
    if tokens.sizes is None and isinstance(height, int) and isinstance(width, int):
        per_group, places = _of_one_image(height, width, window_size, shift)
        return _repeat(per_group, places, batch, height * width + 1)
    sizes = tokens.sizes
    if sizes is None:
        sizes = tf.tile(tf.stack([height, width])[None], [batch, 1])
    return _windows(sizes, height, width, window_size, shift)


def gather_each(x: tf.Tensor, indices: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Rows of x by several tensors of indices, with one gradient for all, which is dense.

    Args:
        x: [N, ...].
        indices: int32 [...] each.

    Returns:
        Of each, its shape with that of the rows behind it.
    """

    @tf.custom_gradient
    def gather(x: tf.Tensor):
        def gradient(*upstream: tf.Tensor) -> tf.Tensor:
            rows = [tf.reshape(dy, tf.concat([[-1], tf.shape(x)[1:]], 0)) for dy in upstream]
            index = tf.concat([tf.reshape(index, [-1]) for index in indices], 0)
            return tf.math.unsorted_segment_sum(tf.concat(rows, 0), index, tf.shape(x)[0])

        return tuple(tf.gather(x, index) for index in indices), gradient

    return list(gather(x))


def relative_position_index(window_size: int) -> np.ndarray:
    """int64 [w * w, w * w], the row of the table of (2 w - 1)^2 relative positions for query and
    key: Detectron2's buffer of this name."""
    along = np.arange(window_size)[:, None] - np.arange(window_size) + window_size - 1
    index = along[:, None, :, None] * (2 * window_size - 1) + along[None, :, None, :]
    return index.reshape(window_size**2, window_size**2)


def shift_masks(window_size: int, shift: int) -> list[np.ndarray | None]:
    """The masks of the windows that are in neither the last row nor the last column, in the last
    column, in the last row, and in both: float32 [w * w, w * w] of 0 and -100, or None for zeros.
    """
    beyond = np.arange(window_size) >= window_size - shift
    masks: list[np.ndarray | None] = [None]
    for rows, columns in ((0, 1), (1, 0), (1, 1)):
        region = (2 * rows * beyond[:, None] + columns * beyond).reshape(-1)
        apart = region[:, None] != region
        masks.append(np.where(apart, _APART, 0.0).astype(np.float32))
    return masks


def _windows(
    sizes: tf.Tensor, height: int | tf.Tensor, width: int | tf.Tensor, window_size: int, shift: int
) -> Windows:
    """Of images of int32 [B, 2] sizes in maps of height x width."""
    rows, columns = (
        _along_axis(sizes[:, axis, None], length, window_size, shift)
        for axis, length in enumerate((height, width))
    )
    stride = height * width + 1
    image = tf.range(tf.shape(sizes)[0])
    row, column = rows.sources[:, :, None], columns.sources[:, None]
    own = tf.where((row >= 0) & (column >= 0), row * width + column, stride - 1)
    own += stride * image[:, None, None]
    count, across = tf.shape(rows.last)[1], tf.shape(columns.last)[1]
    own = tf.reshape(own, [-1, count, window_size, across, window_size])
    own = tf.reshape(tf.transpose(own, [0, 1, 3, 2, 4]), [-1, window_size**2])

    masks = shift_masks(window_size, shift) if shift else [None]
    kind = 2 * rows.last[:, :, None] + columns.last[:, None] if shift else 0
    exists = rows.exists[:, :, None] & columns.exists[:, None]
    kind = tf.reshape(tf.where(exists, kind, len(masks)), [-1])
    order = tf.argsort(kind, stable=True)
    ends = tf.searchsorted(tf.gather(kind, order), tf.range(len(masks)), side="right")
    begin, groups = 0, []
    for mask, end in zip(masks, tf.unstack(ends), strict=True):
        groups.append(WindowGroup(mask, tf.gather(own, order[begin:end])))
        begin = end

    rank = tf.math.invert_permutation(order)
    row, column = rows.places[:, :, None], columns.places[:, None]
    window = row // window_size * across + column // window_size
    window += count * across * image[:, None, None]
    within = row % window_size * window_size + column % window_size
    places = tf.gather(rank, window) * window_size**2 + within
    return Windows(groups, tf.reshape(places, [-1, height * width]))


class _Axis(NamedTuple):
    """Of rows or columns of each image, int32 but for `exists`.

    Attributes:
        sources: [B, P], where what is at a location of the rolled and padded map came from, or -1.
        last: [B, P / w], 1 for an image's last window.
        exists: bool [B, P / w], whether an image has the window.
        places: [B, L], where a location of the map is in the rolled one.
    """

    sources: tf.Tensor
    last: tf.Tensor
    exists: tf.Tensor
    places: tf.Tensor


def _along_axis(own: tf.Tensor, length: int | tf.Tensor, window_size: int, shift: int) -> _Axis:
    """Of images of int32 [B, 1] sizes in a map of `length`."""
    windows, most = -(-own // window_size), -(-length // window_size)
    sources = tf.math.floormod(tf.range(most * window_size) + shift, windows * window_size)
    sources = tf.where(sources < own, sources, -1)
    window = tf.range(most)
    last = tf.cast(window == windows - 1, tf.int32)
    places = tf.math.floormod(tf.range(length) - shift, windows * window_size)
    return _Axis(sources, last, window < windows, places)


@functools.lru_cache(maxsize=64)
def _of_one_image(
    height: int, width: int, window_size: int, shift: int
) -> tuple[list[tuple[np.ndarray | None, np.ndarray]], np.ndarray]:
    """(mask, tokens) of the groups that have any windows, and the places [H * W], as arrays."""
    with tf.init_scope(), tf.device("cpu"):
        windows = _windows(tf.constant([[height, width]]), height, width, window_size, shift)
        groups = [(mask, tokens.numpy()) for mask, tokens in windows.groups]
        return [group for group in groups if len(group[1])], windows.places.numpy()[0]


def _repeat(
    per_group: Sequence[tuple[np.ndarray | None, np.ndarray]],
    places: np.ndarray,
    batch: int | tf.Tensor,
    stride: int,
) -> Windows:
    """`_of_one_image` for a batch, whose images have `stride` tokens each."""
    image = np.arange(batch, dtype=np.int32) if isinstance(batch, int) else tf.range(batch)
    groups = [
        WindowGroup(mask, tf.reshape(tokens + stride * image[:, None, None], [-1, tokens.shape[1]]))
        for mask, tokens in per_group
    ]
    counts = np.array([tokens.size for _, tokens in per_group], np.int32)
    starts = (np.cumsum(counts) - counts).astype(np.int32)
    group = np.searchsorted(starts, places, side="right") - 1
    # Each image's part of a group is behind those of the images before it, and behind the groups
    # before it, which are of all images.
    moved = places + (batch - 1) * starts[group] + image[:, None] * counts[group]
    return Windows(groups, tf.convert_to_tensor(moved))
