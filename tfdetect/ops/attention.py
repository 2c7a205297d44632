"""Softmax attention that never holds all its logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tfdetect.ops import kernels
from tfdetect.ops.backend import current_backend
from tfdetect.ops.shapes import lengths

# Logits that are held at a time, about: 32 MB. Of a global block of ViT-B at 1024 x 1024 there are
# 201 million.
_LOGITS = 1 << 23
# Where the tiles are a part of the graph, one after another: at most so many.
_UNROLLED = 32


def attention(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    *,
    scale: float,
    bias: tf.Tensor | None = None,
    rel_h: tf.Tensor | None = None,
    rel_w: tf.Tensor | None = None,
) -> tf.Tensor:
    """softmax(scale * query key^T + biases) value, of each head by itself.

    Logits, their softmax and all sums are float32, and so a result in half precision is the
    float32 one of the same inputs, rounded. Differentiable, once, in everything but `scale`; the
    gradient computes the logits again. A query all of whose logits are -inf gets NaN.

    Args:
        query: float32, bfloat16 or float16 [B, Nq, heads, D].
        key: [B, Nk, heads, D] in the type of `query`, as are the following.
        value: [B, Nk, heads, D].
        scale: of the products of queries and keys, D**-0.5 as a rule.
        bias: [G, heads, Nq, Nk], added to the logits: of item b of the batch bias[b % G], as of
            windows, G of an image; B is a multiple of G. None: nothing is added.
        rel_h: [B, Nq, heads, Kh], added to the logits: the keys are the locations of a map of
            Kh x Kw = Nk, row by row, and a logit gets its row's number. Given with `rel_w`.
        rel_w: [B, Nq, heads, Kw], the same for the columns.

    Returns:
        [B, Nq, heads, D], in the type of `query`.

    Detectron2: `forward` of ViT's and MViT's `Attention` and of Swin's `WindowAttention`, between
    the projections; `add_decomposed_rel_pos` is given by `rel_h` and `rel_w`.
    """
    if (rel_h is None) != (rel_w is None):
        raise ValueError("attention: rel_h and rel_w are given together")
    dtype = query.dtype
    given = [tensor for tensor in (bias, rel_h, rel_w) if tensor is not None]

    @tf.custom_gradient
    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, *given: tf.Tensor):
        added = _by_kind(given, bias is not None)

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            operands = _Operands.of(query, key, value, added, scale)
            found = _gradients(operands, upstream)
            return [tf.cast(gradient, dtype) for gradient in found]

        # The native operator is the CPU's; a GPU has TensorFlow's products.
        if current_backend().native_sums:
            return _native(query, key, value, added, scale), gradient
        return tf.cast(_forward(_Operands.of(query, key, value, added, scale)), dtype), gradient

    return attend(query, key, value, *given)


def _by_kind(given: Sequence[tf.Tensor], has_bias: bool) -> _Added:
    rest = list(given)
    bias = rest.pop(0) if has_bias else None
    return _Added(bias, *(rest or (None, None)))


class _Added(NamedTuple):
    """What is added to the logits, as `attention` has it."""

    bias: tf.Tensor | None
    rel_h: tf.Tensor | None
    rel_w: tf.Tensor | None


class _Operands(NamedTuple):
    """The operands of `attention` in float32, heads before tokens; and lengths, known or not.

    query [B, heads, Nq, D], key and value [B, heads, Nk, D], bias [G, heads, Nq, Nk], rel_h and
    rel_w [B, heads, Nq, Kh and Kw].
    """

    query: tf.Tensor
    key: tf.Tensor
    value: tf.Tensor
    bias: tf.Tensor | None
    rel_h: tf.Tensor | None
    rel_w: tf.Tensor | None
    scale: float
    batch: int | tf.Tensor
    queries: int | tf.Tensor
    keys: int | tf.Tensor

    @classmethod
    def of(
        cls, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, added: _Added, scale: float
    ) -> _Operands:
        batch, queries, _, _ = lengths(query)
        keys = lengths(key)[1]
        bias = None if added.bias is None else tf.cast(added.bias, tf.float32)
        rel_h, rel_w = (None if rel is None else _swap(rel) for rel in added[1:])
        operands = (_swap(query), _swap(key), _swap(value), bias, rel_h, rel_w)
        return cls(*operands, scale, batch, queries, keys)

    def cut(self) -> list[tf.Tensor]:
        """What has an axis of queries, which is axis 2 of each."""
        parts = (self.query, self.bias, self.rel_h, self.rel_w)
        return [part for part in parts if part is not None]

    def of_tile(self, parts: Sequence[tf.Tensor]) -> tuple[tf.Tensor, _Added]:
        """The query, and what is added to the logits, of parts of `cut()`."""
        query, *rest = parts
        return query, _by_kind(rest, self.bias is not None)

    def logits(self, query: tf.Tensor, added: _Added) -> tf.Tensor:
        """[B, heads, n, Nk] of n queries."""
        logits = tf.matmul(query * self.scale, self.key, transpose_b=True)
        shape = lengths(logits)
        if added.rel_h is not None:
            logits = tf.reshape(logits, self._as_map(shape, added))
            logits += tf.reshape(added.rel_h, self._as_map(shape, added, columns=1))
            logits += tf.reshape(added.rel_w, self._as_map(shape, added, rows=1))
        if added.bias is not None:
            logits = tf.reshape(logits, self._in_groups(shape, added.bias))
            logits += tf.reshape(added.bias, [1, -1, shape[2], shape[3]])
        return tf.reshape(logits, shape)

    def gradients_of_added(self, added: _Added, gradient: tf.Tensor) -> list[tf.Tensor]:
        """Of what is given of bias, rel_h and rel_w, by the gradient of the logits."""
        shape = lengths(gradient)
        found = []
        if added.bias is not None:
            in_groups = tf.reshape(gradient, self._in_groups(shape, added.bias))
            found.append(tf.reshape(tf.reduce_sum(in_groups, 0), lengths(added.bias)))
        if added.rel_h is not None:
            of_map = tf.reshape(gradient, self._as_map(shape, added))
            found.append(tf.reshape(tf.reduce_sum(of_map, 3), lengths(added.rel_h)))
            found.append(tf.reshape(tf.reduce_sum(of_map, 2), lengths(added.rel_w)))
        return found

    # LiteRT adds what differs in shape in four dimensions, and no more.

    def _as_map(
        self, shape: list, added: _Added, rows: int | None = None, columns: int | None = None
    ) -> list:
        """Of logits, the keys as rows and columns."""
        rows = rows or lengths(added.rel_h)[3]
        columns = columns or lengths(added.rel_w)[3]
        return [shape[0] * shape[1], shape[2], rows, columns]

    def _in_groups(self, shape: list, bias: tf.Tensor) -> list:
        """Of logits, the items of the batch whose bias is the same first."""
        groups = lengths(bias)[0]
        return [shape[0] // groups, groups * shape[1], shape[2], shape[3]]


def _native(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, added: _Added, scale: float
) -> tf.Tensor:
    nothing = tf.zeros([0, 0, 0, 0], query.dtype)
    given = {
        name: nothing if tensor is None else tensor for name, tensor in added._asdict().items()
    }
    return kernels.library().tfdetect_attention(
        query=query, key=key, value=value, **given, scale=scale
    )


def _forward(operands: _Operands) -> tf.Tensor:
    """float32 [B, Nq, heads, D]."""

    def tile(parts: Sequence[tf.Tensor], _: Sequence[tf.Tensor]):
        weights = tf.nn.softmax(operands.logits(*operands.of_tile(parts)))
        return [tf.matmul(weights, operands.value)], []

    (output,), _ = _by_tiles(tile, operands, operands.cut(), [], results=1)
    return _swap(output)


def _gradients(operands: _Operands, upstream: tf.Tensor) -> list[tf.Tensor]:
    """float32: of query, key and value, and of what is given of bias, rel_h and rel_w."""

    def tile(parts: Sequence[tf.Tensor], sums: Sequence[tf.Tensor]):
        upstream, *parts = parts
        query, added = operands.of_tile(parts)
        weights = tf.nn.softmax(operands.logits(query, added))
        value_sum = sums[1] + tf.matmul(weights, upstream, transpose_a=True)
        gradient = tf.matmul(upstream, operands.value, transpose_b=True)
        mean = tf.reduce_sum(weights * gradient, -1, keepdims=True)
        gradient = weights * (gradient - mean)
        key_sum = sums[0] + tf.matmul(gradient, query * operands.scale, transpose_a=True)
        query_gradient = operands.scale * tf.matmul(gradient, operands.key)
        found = [query_gradient, *operands.gradients_of_added(added, gradient)]
        return found, [key_sum, value_sum]

    sums = [tf.zeros_like(operands.key), tf.zeros_like(operands.value)]
    cut = [_swap(upstream), *operands.cut()]
    results = len(operands.cut())
    (query, *added), (key, value) = _by_tiles(tile, operands, cut, sums, results=results)
    if operands.bias is not None:
        return [*map(_swap, (query, key, value)), added[0], *map(_swap, added[1:])]
    return [_swap(gradient) for gradient in (query, key, value, *added)]


_Tile = Callable[
    [Sequence[tf.Tensor], Sequence[tf.Tensor]], tuple[list[tf.Tensor], list[tf.Tensor]]
]


def _by_tiles(
    tile: _Tile,
    operands: _Operands,
    cut: Sequence[tf.Tensor],
    sums: list[tf.Tensor],
    *,
    results: int,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Call `tile` for some of the queries at a time.

    Args:
        tile: given parts of `cut`, and sums, returns results of which axis 2 is the queries, and
            the next sums.
        operands: which are in `cut`.
        cut: tensors of which axis 2 is the queries.
        sums: to begin with.
        results: how many `tile` returns.

    Returns:
        What `tile` returns of all queries.
    """
    total = operands.queries
    size = _tile_size(operands)
    one = isinstance(size, int) and isinstance(total, int) and size >= total
    if one:
        return tile(cut, sums)
    unrolled = current_backend().fixed_shapes and isinstance(size, int)
    if tf.executing_eagerly() or unrolled:
        tiles = []
        for start in range(0, int(total), int(size)):
            parts = [part[:, :, start : min(start + size, total)] for part in cut]
            found, sums = tile(parts, sums)
            tiles.append(found)
        return [tf.concat(found, 2) for found in zip(*tiles, strict=True)], sums

    # In a graph tiles must be turns of a loop: TensorFlow would begin with all of them at once.
    count = tf.maximum((total + size - 1) // size, 1)
    beyond = count * size - total
    padded = [tf.pad(part, [[0, 0], [0, 0], [0, beyond], [0, 0]]) for part in cut]

    def turn(index: tf.Tensor, arrays: list[tf.TensorArray], sums: list[tf.Tensor]):
        parts = []
        for part in padded:
            first, heads, _, last = lengths(part)
            here = tf.slice(part, [0, 0, index * size, 0], [first, heads, size, last])
            known = size if isinstance(size, int) else None
            parts.append(tf.ensure_shape(here, [*part.shape[:2], known, part.shape[3]]))
        found, next_sums = tile(parts, sums)
        sums = [tf.ensure_shape(a, b.shape) for a, b in zip(next_sums, sums, strict=True)]
        written = [array.write(index, part) for array, part in zip(arrays, found, strict=True)]
        return index + 1, written, sums

    arrays = [tf.TensorArray(tf.float32, count) for _ in range(results)]
    _, arrays, sums = tf.while_loop(
        lambda index, *_: index < count, turn, [0, arrays, sums], parallel_iterations=1
    )
    return [_joined(array, total) for array in arrays], sums


def _tile_size(operands: _Operands) -> int | tf.Tensor:
    """Of how many queries the logits are computed together."""
    heads = operands.query.shape[1]
    total = operands.queries
    logits_of_one = operands.batch * heads * operands.keys
    if isinstance(logits_of_one, int) and isinstance(total, int):
        size = max(_LOGITS // max(logits_of_one, 1), 1)
        if current_backend().fixed_shapes:
            size = max(size, -(-total // _UNROLLED))
        return max(min(size, total), 1)
    # In int64, which the logits of all images together do not overflow.
    one = tf.cast(operands.batch, tf.int64) * heads * tf.cast(operands.keys, tf.int64)
    size = tf.cast(_LOGITS // tf.maximum(one, 1), tf.int32)
    return tf.maximum(tf.minimum(size, total), 1)


def _joined(array: tf.TensorArray, total: int | tf.Tensor) -> tf.Tensor:
    """The tiles [A, heads, n, C] of an array one after another: [A, heads, total, C]."""
    stacked = array.stack()
    count, first, heads, size, last = lengths(stacked)
    joined = tf.reshape(tf.transpose(stacked, [1, 2, 0, 3, 4]), [first, heads, count * size, last])
    return joined[:, :, :total]


def _swap(x: tf.Tensor) -> tf.Tensor:
    """[B, tokens, heads, ...] to float32 [B, heads, tokens, ...], or back."""
    return tf.transpose(tf.cast(x, tf.float32), [0, 2, 1, 3])
