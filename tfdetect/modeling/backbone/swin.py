"""Swin Transformer (Liu et al., 2021), as Detectron2 builds it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.layers.activation_checkpoint import activation_checkpoint
from tfdetect.layers.buffer import Buffer
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.drop_path import add_branch, drop_path
from tfdetect.layers.freeze import untrainable
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.linear import Linear, Mlp
from tfdetect.layers.norm import LayerNorm
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.backbone.positions import add_abs_pos
from tfdetect.modeling.backbone.shifted_windows import (
    Windows,
    gather_each,
    make_windows,
    relative_position_index,
)
from tfdetect.modeling.registries import BACKBONES
from tfdetect.ops.attention import attention
from tfdetect.ops.shapes import lengths, pad_to_multiple

_EPSILON = 1e-5  # of every norm: torch.nn.LayerNorm's


class WindowAttention(tf.Module):
    """Attention of several heads within windows (Detectron2's `WindowAttention`).

    Variables are those of `qkv` and `proj`, and `relative_position_bias_table`, float32
    [(2 w - 1)^2, num_heads].

    Args:
        dim: channels of the tokens, of all heads together.
        window_size: w, the side of a window.
        num_heads: how many heads.
        qkv_bias: whether query, key and value have one.
        qk_scale: of the products of queries and keys; 0 for (dim / num_heads) ** -0.5.
    """

    def __init__(
        self,
        dim: int,
        window_size: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        qk_scale: float = 0.0,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self._window_size = window_size
        self.relative_position_bias_table = tf.Variable(
            tf.zeros([(2 * window_size - 1) ** 2, num_heads])
        )
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)

    def buffers(self) -> dict[str, Buffer]:
        """`relative_position_index`, which Detectron2's state dict has."""
        tokens = self._window_size**2
        compute = functools.partial(relative_position_index, self._window_size)
        return {"relative_position_index": Buffer((tokens, tokens), compute)}

    def relative_position_bias(self) -> tf.Tensor:
        """float32 [num_heads, w * w, w * w], added to the logits of queries and keys."""
        index = relative_position_index(self._window_size)
        # Along the second axis: along the first the gradient would be sparse.
        return tf.gather(tf.transpose(self.relative_position_bias_table), index, axis=1)

    def __call__(self, x: tf.Tensor, windows: Windows) -> tf.Tensor:
        """x: [B, H, W, dim], of which `windows` are."""
        batch, height, width, dim = lengths(x)
        tokens = tf.pad(tf.reshape(x, [batch, height * width, dim]), [[0, 0], [0, 1], [0, 0]])
        # Rows of query, key and value of a token follow each other.
        qkv = tf.reshape(self.qkv(tokens), [-1, self.num_heads, dim // self.num_heads])
        bias = tf.cast(self.relative_position_bias(), x.dtype)
        rows = [3 * indices + part for _, indices in windows.groups for part in range(3)]
        parts = iter(gather_each(qkv, rows))
        found = []
        for mask, _ in windows.groups:
            query, key, value = next(parts), next(parts), next(parts)
            added = bias if mask is None else bias + tf.cast(mask, bias.dtype)
            y = attention(query, key, value, scale=self.scale, bias=added[None])
            found.append(tf.reshape(y, [-1, dim]))
        y = found[0] if len(found) == 1 else tf.concat(found, 0)
        (y,) = gather_each(y, [windows.places])
        return self.proj(tf.reshape(y, [batch, height, width, dim]))


class SwinTransformerBlock(tf.Module):
    """Attention in windows and two linear layers, each beside an identity (Detectron2's name).

    Args:
        dim, window_size, num_heads, qkv_bias, qk_scale: of `WindowAttention`.
        shift_size: by how much the windows are shifted.
        mlp_ratio: the width between the linear layers, in `dim`s.
        drop_path_rate: how often, in training, each of both branches is left out.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: int,
        shift_size: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        self.shift_size = shift_size
        self._drop_path_rate = drop_path_rate
        self.norm1 = LayerNorm(dim, _EPSILON)
        self.attn = WindowAttention(
            dim, window_size, num_heads, qkv_bias=qkv_bias, qk_scale=qk_scale
        )
        self.norm2 = LayerNorm(dim, _EPSILON)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def __call__(self, x: tf.Tensor, windows: Windows) -> tf.Tensor:
        """x: [B, H, W, dim]; `windows` are of it, shifted by `shift_size`."""
        x += drop_path(self.attn(self.norm1(x), windows), self._drop_path_rate)
        return add_branch(x, self.mlp, self.norm2(x), self._drop_path_rate)


class PatchMerging(tf.Module):
    """Halves height and width and doubles the channels (Detectron2's `PatchMerging`)."""

    def __init__(self, dim: int):
        super().__init__()
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)
        self.norm = LayerNorm(4 * dim, _EPSILON)

    def __call__(self, x: tf.Tensor, tokens: ValidSizes = WHOLE) -> tf.Tensor:
        """[B, H, W, dim] to [B, H / 2, W / 2, 2 * dim], rounded up, with zeros where x ends."""
        x = pad_to_multiple(tokens.zero_padding(x), 2)
        corners = [x[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return self.reduction(self.norm(tf.concat(corners, -1)))


class BasicLayer(tf.Module):
    """The blocks of a stage, of which every second one has shifted windows (Detectron2's name).

    Args:
        dim, num_heads, window_size, mlp_ratio, qkv_bias, qk_scale: of `SwinTransformerBlock`.
        drop_path_rates: of each block.
        downsample: whether a `PatchMerging` comes last.
        use_checkpoint: whether training computes each block again for its gradients.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: int,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float,
        drop_path_rates: Sequence[float],
        downsample: bool,
        use_checkpoint: bool,
    ):
        super().__init__()
        self._window_size = window_size
        self._use_checkpoint = use_checkpoint
        self.blocks = [
            SwinTransformerBlock(
                dim,
                num_heads,
                window_size=window_size,
                shift_size=window_size // 2 if index % 2 else 0,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop_path_rate=rate,
            )
            for index, rate in enumerate(drop_path_rates)
        ]
        self.downsample = PatchMerging(dim) if downsample else None

    def __call__(
        self, x: tf.Tensor, tokens: ValidSizes = WHOLE, *, name: str = "layer"
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """x [B, H, W, dim] after the blocks, and what the next stage gets.

        Args:
            x: tokens.
            tokens: their valid sizes.
            name: of the stage among intermediates.
        """

        # The same for all blocks that are shifted alike.
        shifts = {block.shift_size for block in self.blocks}
        windows = {
            shift: make_windows(x, tokens, self._window_size, shift) for shift in sorted(shifts)
        }
        for index, block in enumerate(self.blocks):

            def run(x: tf.Tensor, block: SwinTransformerBlock = block) -> tf.Tensor:
                return block(x, windows[block.shift_size])

            x = activation_checkpoint(run, x) if self._use_checkpoint else run(x)
            add_intermediates({f"{name}_block{index}": x})
        if self.downsample is None:
            return x, x
        merged = self.downsample(x, tokens)
        add_intermediates({f"{name}_merged": merged})
        return x, merged


class PatchEmbed(tf.Module):
    """Non-overlapping patches of an image as tokens (Detectron2: Swin's `PatchEmbed`).

    Args:
        patch_size: their side in pixels.
        embed_dim: channels of a token.
        norm: whether tokens are normalised.
    """

    def __init__(self, patch_size: int, embed_dim: int, norm: bool):
        super().__init__()
        self.proj = Conv2d(3, embed_dim, patch_size, stride=patch_size)
        self.norm = LayerNorm(embed_dim, _EPSILON) if norm else None

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[B, H, W, 3] to [B, H / patch_size, W / patch_size, embed_dim], rounded up."""
        x = self.proj(pad_to_multiple(x, self.proj.stride), valid_sizes)
        return x if self.norm is None else self.norm(x)


class SwinTransformer(tf.Module):
    """The backbone: stages of strides 4, 8, 16, ..., whose normalised outputs are p0, p1, p2, ...

    Args:
        pretrain_img_size: side in pixels of the images that `absolute_pos_embed` is for.
        patch_size: side in pixels of a patch, a power of 2.
        embed_dim: channels of the first stage; each stage has twice those of the one before.
        depths: how many blocks each stage has.
        num_heads: of each stage.
        window_size, mlp_ratio, qkv_bias, qk_scale: of `SwinTransformerBlock`.
        drop_path_rate: of the last block; it grows linearly from 0 over the blocks of all stages.
        ape: whether there are absolute positions, `absolute_pos_embed`, [1, embed_dim, h, w].
        patch_norm: whether patches are normalised.
        out_indices: the stages that are given, from 0.
        frozen_stages: what does not train: nothing below 0, the patch embedding from 0 on, the
            absolute positions from 1 on, and the first frozen_stages - 1 stages from 2 on.
        use_checkpoint: whether training computes each block again for its gradients, and does not
            keep what is within it.
    """

    # Detectron2 means 32; its attribute is misspelt, and a Swin without FPN fails there.
    size_divisibility = 32

    def __init__(
        self,
        *,
        pretrain_img_size: int = 224,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float = 0.0,
        drop_path_rate: float = 0.2,
        ape: bool = False,
        patch_norm: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
    ):
        super().__init__()
        self._patch_size = patch_size
        self._out_indices = list(out_indices)
        with untrainable(frozen_stages >= 0):
            self.patch_embed = PatchEmbed(patch_size, embed_dim, patch_norm)
        self.absolute_pos_embed = None
        if ape:
            side = pretrain_img_size // patch_size
            with untrainable(frozen_stages >= 1):
                self.absolute_pos_embed = tf.Variable(tf.zeros([1, embed_dim, side, side]))
        rates = np.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.layers = []
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            with untrainable(stage < frozen_stages - 1):
                layer = BasicLayer(
                    embed_dim * 2**stage,
                    heads,
                    window_size=window_size,
                    mlp_ratio=mlp_ratio,
                    qkv_bias=qkv_bias,
                    qk_scale=qk_scale,
                    drop_path_rates=rates[:depth],
                    downsample=stage < len(depths) - 1,
                    use_checkpoint=use_checkpoint,
                )
            rates = rates[depth:]
            self.layers.append(layer)
        self.output_shapes = {}
        for stage in self._out_indices:
            setattr(self, f"norm{stage}", LayerNorm(embed_dim * 2**stage, _EPSILON))
            self.output_shapes[f"p{stage}"] = (embed_dim * 2**stage, patch_size * 2**stage)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> SwinTransformer:
        """From MODEL.SWIN, whose keys are the arguments."""
        return cls(**{key.lower(): value for key, value in cfg.MODEL.SWIN.items()})

    @profile_scope("backbone")
    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> dict[str, tf.Tensor]:
        """[N, H, W, 3] -> the features by name (p0, p1, ...)."""
        x = self.patch_embed(x, valid_sizes)
        add_intermediates({"patch_embed": x})
        tokens = valid_sizes.strided(self._patch_size)
        x = self._add_positions(x, tokens)
        features = {}
        for stage, layer in enumerate(self.layers):
            y, x = layer(x, tokens, name=f"layer{stage}")
            if stage in self._out_indices:
                features[f"p{stage}"] = getattr(self, f"norm{stage}")(y)
            tokens = tokens.strided(2)
        add_intermediates(features)
        return features

    def _add_positions(self, x: tf.Tensor, tokens: ValidSizes) -> tf.Tensor:
        if self.absolute_pos_embed is None:
            return x
        _, channels, rows, columns = self.absolute_pos_embed.shape
        table = tf.transpose(self.absolute_pos_embed, [0, 2, 3, 1])
        table = tf.reshape(table, [1, rows * columns, channels])
        return add_abs_pos(x, table, False, tokens)


@BACKBONES.register()
def build_swin_backbone(cfg: CfgNode) -> SwinTransformer:
    """The Swin Transformer of MODEL.SWIN alone.

    The name is this project's: Detectron2 builds it in Python configs.
    """
    return SwinTransformer.from_config(cfg)
