"""Multi-scale attention: attention of pooled queries, keys and values (MViTv2; Li et al., 2022)."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.layers.depthwise_conv import DepthwiseConv2d
from tfdetect.layers.linear import Linear
from tfdetect.layers.norm import LayerNorm
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.backbone.positions import added_logits
from tfdetect.modeling.backbone.windows import window_partition, window_unpartition
from tfdetect.ops.attention import attention
from tfdetect.ops.shapes import lengths

EPSILON = 1e-6  # of every norm of MViT


class MultiScaleAttention(tf.Module):
    """Attention of several heads among pooled tokens (Detectron2's `MultiScaleAttention`).

    Args:
        dim, dim_out: channels of the tokens before and after, the latter of all heads together.
        num_heads: how many heads.
        qkv_bias: whether query, key and value have one.
        pool_kernel: side of the pooling convolutions.
        stride_q, stride_kv: of the pooling of queries, and of keys and values: powers of 2.
        residual_pooling: whether the pooled queries are added to the result.
        window_size: side of the windows, in tokens of x, a multiple of both strides; 0 for one
            window of all tokens.
        rel_pos_size: side of the grid, in tokens of x, that tables of relative positions are for,
            or None for no relative positions. Grids may have any size.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        pool_kernel: int = 3,
        stride_q: int = 1,
        stride_kv: int = 1,
        residual_pooling: bool = True,
        window_size: int = 0,
        rel_pos_size: int | None = None,
    ):
        super().__init__()
        self._num_heads = num_heads
        self._head_dim = dim_out // num_heads
        self._residual_pooling = residual_pooling
        self._stride_q, self._stride_kv = stride_q, stride_kv
        self._window_size = window_size
        self.rel_pos_h = self.rel_pos_w = None
        if rel_pos_size is not None:
            length = 2 * max(rel_pos_size // stride_q, rel_pos_size // stride_kv) - 1
            self.rel_pos_h, self.rel_pos_w = (
                tf.Variable(tf.zeros([length, self._head_dim])) for _ in range(2)
            )
        self.qkv = Linear(dim, 3 * dim_out, bias=qkv_bias)
        self.proj = Linear(dim_out, dim_out)
        self.pool_q = DepthwiseConv2d(self._head_dim, pool_kernel, stride_q)
        self.norm_q = LayerNorm(self._head_dim, EPSILON)
        self.pool_k = DepthwiseConv2d(self._head_dim, pool_kernel, stride_kv)
        self.norm_k = LayerNorm(self._head_dim, EPSILON)
        self.pool_v = DepthwiseConv2d(self._head_dim, pool_kernel, stride_kv)
        self.norm_v = LayerNorm(self._head_dim, EPSILON)

    def __call__(self, x: tf.Tensor, tokens: ValidSizes = WHOLE) -> tf.Tensor:
        """[B, H, W, dim] -> [B, H / stride_q, W / stride_q, dim_out], rounded up.

        Args:
            x: the tokens.
            tokens: their valid sizes, beyond which nothing takes part.
        """
        # The convolutions see zeros where an image ends, not the bias.
        query, key, value = tf.split(tokens.zero_padding(self.qkv(x)), 3, 3)
        query = self._normalize(self.norm_q, self.pool_q(query))
        key = self._normalize(self.norm_k, self.pool_k(key))
        value = self._normalize(self.norm_v, self.pool_v(value))
        of_queries = tokens.strided(self._stride_q)
        of_keys = tokens.strided(self._stride_kv)
        if self._window_size:
            # Windows are filled with zeros where an image ends, which take part as keys.
            y = self._attend_in_windows(
                query, of_keys.zero_padding(key), of_keys.zero_padding(value)
            )
        else:
            y = self._attend(query, key, value, of_queries, of_keys)
        return self.proj(y + query if self._residual_pooling else y)

    def _normalize(self, norm: LayerNorm, x: tf.Tensor) -> tf.Tensor:
        """x [B, H, W, dim_out], each head by itself."""
        batch, height, width, channels = lengths(x)
        heads = tf.reshape(x, [batch, height, width, self._num_heads, self._head_dim])
        return tf.reshape(norm(heads), [batch, height, width, channels])

    def _attend_in_windows(self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        """Of maps [B, H, W, dim_out]: [B, h, w, dim_out] of the query's size."""
        of_query = self._window_size // self._stride_q
        of_key = self._window_size // self._stride_kv
        queries, padded_size = window_partition(query, of_query)
        keys, _ = window_partition(key, of_key)
        values, _ = window_partition(value, of_key)
        y = self._attend(queries, keys, values, WHOLE, WHOLE)
        return window_unpartition(y, of_query, padded_size, tuple(lengths(query)[1:3]))

    def _attend(
        self,
        query: tf.Tensor,
        key: tf.Tensor,
        value: tf.Tensor,
        of_queries: ValidSizes,
        of_keys: ValidSizes,
    ) -> tf.Tensor:
        """Among all tokens of maps [B, H, W, dim_out], of these valid sizes."""
        q_size, k_size = lengths(query)[1:3], lengths(key)[1:3]
        shape = lengths(query)
        query, key, value = (self._as_tokens(x) for x in (query, key, value))
        tables = (self.rel_pos_h, self.rel_pos_w)
        rel_h, rel_w = added_logits(query, tables, q_size, k_size, of_queries, of_keys)
        scale = self._head_dim**-0.5
        y = attention(query, key, value, scale=scale, rel_h=rel_h, rel_w=rel_w)
        return tf.reshape(y, shape)

    def _as_tokens(self, x: tf.Tensor) -> tf.Tensor:
        """[B, H, W, dim_out] -> [B, H * W, heads, head_dim]."""
        batch, height, width, _ = lengths(x)
        return tf.reshape(x, [batch, height * width, self._num_heads, self._head_dim])
