"""Fully connected layers."""

from __future__ import annotations

import tensorflow as tf

from tfdetect.ops.gelu import gelu as apply_gelu


class Linear(tf.Module):
    """y = x W + b. Variables are `weight` float32 [in_features, out_features] and `bias`.

    Args:
        in_features: length of the input vectors.
        out_features: length of the output vectors.
        flattened: (height, width, channels) where the input is a flattened NHWC map, else None.
            PyTorch flattens channels first, so a foreign checkpoint's weight is permuted.
        bias: whether there is one; `bias` is None otherwise.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        flattened: tuple[int, int, int] | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        self.flattened = flattened
        self.weight = tf.Variable(tf.zeros([in_features, out_features]))
        self.bias = tf.Variable(tf.zeros([out_features])) if bias else None

    def __call__(
        self,
        x: tf.Tensor,
        *,
        residual: tf.Tensor | None = None,
        relu: bool = False,
        gelu: bool = False,
    ) -> tf.Tensor:
        """[..., in_features] -> [..., out_features].

        Args:
            x: the vectors.
            residual: of the result's shape, added to it; or None.
            relu: whether ReLU is applied, after all.
            gelu: whether GELU is applied, after all.
        """
        y = tf.matmul(flatten(x), tf.cast(self.weight, x.dtype))
        if self.bias is not None:
            y = tf.nn.bias_add(y, tf.cast(self.bias, x.dtype))
        if residual is not None:
            y += flatten(residual)
        if relu:
            y = tf.nn.relu(y)
        return with_last_axis(apply_gelu(y) if gelu else y, x)


class Mlp(tf.Module):
    """Two linear layers, `fc1` and `fc2`, with GELU between them.

    Args:
        features: length of the input and of the output vectors.
        hidden_features: length of those between.

    Detectron2: timm's `Mlp`, as its transformers use it.
    """

    def __init__(self, features: int, hidden_features: int):
        super().__init__()
        self.fc1 = Linear(features, hidden_features)
        self.fc2 = Linear(hidden_features, features)

    def __call__(self, x: tf.Tensor, *, residual: tf.Tensor | None = None) -> tf.Tensor:
        """[..., features] -> the same, plus `residual` if there is one."""
        return self.fc2(self.fc1(x, gelu=True), residual=residual)


def flatten(x: tf.Tensor) -> tf.Tensor:
    """[..., C] -> [N, C]: one matrix product for all vectors, and not one for each row of a map."""
    return x if len(x.shape) == 2 else tf.reshape(x, [-1, x.shape[-1]])


def with_last_axis(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """What `flatten(x)` gave, [N, C'], in the shape of x before: [..., C']."""
    if len(x.shape) == 2:
        return y
    known = [*x.shape[:-1], y.shape[-1]]
    shape = known if None not in known else tf.concat([tf.shape(x)[:-1], [y.shape[-1]]], 0)
    return tf.ensure_shape(tf.reshape(y, shape), known)
