"""ViT, the plain vision transformer, as ViTDet uses it (Li et al., 2022)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.layers.activation_checkpoint import activation_checkpoint
from tfdetect.layers.conv import Conv2d
from tfdetect.layers.drop_path import add_branch, drop_path
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.linear import Linear, Mlp
from tfdetect.layers.norm import LayerNorm, MapLayerNorm, apply_norm
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, LevelSizes, ValidSizes
from tfdetect.modeling.backbone.positions import add_abs_pos, added_logits, get_abs_pos
from tfdetect.modeling.backbone.windows import window_partition, window_unpartition
from tfdetect.modeling.registries import BACKBONES
from tfdetect.ops.attention import attention
from tfdetect.ops.gelu import gelu
from tfdetect.ops.shapes import lengths

_EPSILON = 1e-6


class Attention(tf.Module):
    """Attention of several heads among all tokens of a grid (Detectron2: `vit.Attention`).

    Args:
        dim: channels of the tokens, of all heads together.
        num_heads: how many heads.
        qkv_bias: whether query, key and value have one.
        rel_pos_size: (height, width) of the grid that tables of relative positions are for, or
            None for no relative positions. Grids may have any size.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        rel_pos_size: tuple[int, int] | None = None,
    ):
        super().__init__()
        self._num_heads = num_heads
        self._head_dim = dim // num_heads
        self.rel_pos_h = self.rel_pos_w = None
        if rel_pos_size is not None:
            self.rel_pos_h, self.rel_pos_w = (
                tf.Variable(tf.zeros([2 * size - 1, self._head_dim])) for size in rel_pos_size
            )
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)

    def __call__(self, x: tf.Tensor, tokens: ValidSizes = WHOLE) -> tf.Tensor:
        """x: [B, H, W, dim]; `tokens` are its valid sizes, beyond which nothing takes part."""
        batch, height, width, dim = lengths(x)
        qkv = tf.reshape(self.qkv(x), [batch, height * width, 3, self._num_heads, self._head_dim])
        query, key, value = tf.unstack(qkv, axis=2)
        size = (height, width)
        tables = (self.rel_pos_h, self.rel_pos_w)
        rel_h, rel_w = added_logits(query, tables, size, size, tokens, tokens)
        scale = self._head_dim**-0.5
        y = attention(query, key, value, scale=scale, rel_h=rel_h, rel_w=rel_w)
        return self.proj(tf.reshape(y, [batch, height, width, dim]))


class ResBottleneckBlock(tf.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside an identity (Detectron2's block of this name).

    Its norms are those of maps, whose weights decay in training.

    Args:
        channels: of input and output.
        bottleneck_channels: between.
    """

    def __init__(self, channels: int, bottleneck_channels: int):
        super().__init__()
        self.conv1 = Conv2d(channels, bottleneck_channels, 1, bias=False)
        self.norm1 = MapLayerNorm(bottleneck_channels)
        self.conv2 = Conv2d(bottleneck_channels, bottleneck_channels, 3, padding=1, bias=False)
        self.norm2 = MapLayerNorm(bottleneck_channels)
        self.conv3 = Conv2d(bottleneck_channels, channels, 1, bias=False)
        self.norm3 = MapLayerNorm(channels)

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """x: [B, H, W, channels]."""
        y = gelu(apply_norm(self.norm1, self.conv1(x)))
        y = gelu(apply_norm(self.norm2, self.conv2(y, valid_sizes)))
        return x + apply_norm(self.norm3, self.conv3(y))


class Block(tf.Module):
    """Attention and two linear layers, each beside an identity (Detectron2: `vit.Block`).

    Args:
        dim, num_heads, qkv_bias, rel_pos_size: of `Attention`.
        mlp_ratio: the width between the linear layers, in `dim`s.
        drop_path_rate: how often, in training, each of both branches is left out.
        window_size: the side of the windows in which tokens attend; 0 for one of all tokens.
        residual: whether a `ResBottleneckBlock` comes last.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        rel_pos_size: tuple[int, int] | None = None,
        window_size: int = 0,
        residual: bool = False,
    ):
        super().__init__()
        self._drop_path_rate = drop_path_rate
        self._window_size = window_size
        self.norm1 = LayerNorm(dim, _EPSILON)
        self.attn = Attention(dim, num_heads, qkv_bias=qkv_bias, rel_pos_size=rel_pos_size)
        self.norm2 = LayerNorm(dim, _EPSILON)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.residual = ResBottleneckBlock(dim, dim // 2) if residual else None

    def __call__(self, x: tf.Tensor, tokens: ValidSizes = WHOLE) -> tf.Tensor:
        """x: [B, H, W, dim], whose valid sizes `tokens` are."""
        x += drop_path(self._attend(self.norm1(x), tokens), self._drop_path_rate)
        x = add_branch(x, self.mlp, self.norm2(x), self._drop_path_rate)
        return x if self.residual is None else self.residual(x, tokens)

    def _attend(self, x: tf.Tensor, tokens: ValidSizes) -> tf.Tensor:
        if self._window_size == 0:
            return self.attn(x, tokens)
        _, height, width, _ = lengths(x)
        # Zeros are what windows are filled with where an image ends; they take part as keys.
        windows, padded_size = window_partition(tokens.zero_padding(x), self._window_size)
        y = self.attn(windows)
        return window_unpartition(y, self._window_size, padded_size, (height, width))


class PatchEmbed(tf.Module):
    """Non-overlapping patches of an image as tokens (Detectron2's `PatchEmbed`).

    Args:
        patch_size: their side in pixels.
        dim: channels of a token.
    """

    def __init__(self, patch_size: int, dim: int):
        super().__init__()
        self.proj = Conv2d(3, dim, patch_size, stride=patch_size)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """[B, H, W, 3] to [B, H // patch_size, W // patch_size, dim]."""
        return self.proj(x)


class ViT(tf.Module):
    """The backbone: patches with positions, and blocks among them, all of one resolution.

    Images may have any size; those below two patches are padded to them. (Detectron2 fails there,
    where its pyramid halves the map.) What is left over of whole patches, below and on the right,
    is dropped.

    Args:
        img_size: side in pixels of the images that the relative positions of blocks without windows
            are for.
        patch_size: side in pixels of a patch.
        embed_dim: channels.
        depth: how many blocks.
        num_heads, mlp_ratio, qkv_bias: of `Block`.
        drop_path_rate: of the last block; that of block i is i / (depth - 1) of it.
        use_abs_pos: whether there are absolute positions, `pos_embed`.
        use_rel_pos: whether blocks have relative positions.
        window_size: of the blocks in `window_block_indexes`; the others have no windows.
        window_block_indexes, residual_block_indexes: which blocks have windows, and convolutions.
        use_act_checkpoint: whether training computes each block again for its gradients, and does
            not keep what is within it.
        pretrain_img_size: side in pixels of the images that `pos_embed` is for.
        pretrain_use_cls_token: whether `pos_embed` begins with that of a class token.
        out_feature: the name of the feature.
        square_pad: side in pixels of the squares that all images are padded to; 0 where they have
            sizes of their own. `optimize` interpolates `pos_embed` for it.
    """

    # Detectron2 says 0: the image batch is not padded to a multiple of anything.
    size_divisibility = 1

    def __init__(
        self,
        *,
        img_size: int = 1024,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        use_abs_pos: bool = True,
        use_rel_pos: bool = False,
        window_size: int = 0,
        window_block_indexes: Collection[int] = (),
        residual_block_indexes: Collection[int] = (),
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_feature: str = "last_feat",
        square_pad: int = 0,
    ):
        super().__init__()
        self.num_layers = depth
        self._patch_size = patch_size
        self._has_cls_token = pretrain_use_cls_token
        self._use_act_checkpoint = use_act_checkpoint
        self._out_feature = out_feature
        self._square_pad = square_pad
        self.pos_embed = self.square_positions = None
        if use_abs_pos:
            positions = (pretrain_img_size // patch_size) ** 2 + int(pretrain_use_cls_token)
            self.pos_embed = tf.Variable(tf.zeros([1, positions, embed_dim]))
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.blocks = []
        for index, rate in enumerate(np.linspace(0, drop_path_rate, depth)):
            window = window_size if index in window_block_indexes else 0
            side = window or img_size // patch_size
            self.blocks.append(
                Block(
                    embed_dim,
                    num_heads,
                    mlp_ratio=mlp_ratio,
                    qkv_bias=qkv_bias,
                    drop_path_rate=float(rate),
                    rel_pos_size=(side, side) if use_rel_pos else None,
                    window_size=window,
                    residual=index in residual_block_indexes,
                )
            )
        self.output_shapes = {out_feature: (embed_dim, patch_size)}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ViT:
        """From MODEL.VIT, whose keys are the arguments, and MODEL.BACKBONE.SQUARE_PAD."""
        options = {key.lower(): value for key, value in cfg.MODEL.VIT.items()}
        return cls(**options, square_pad=cfg.MODEL.BACKBONE.SQUARE_PAD)

    def make_square_positions(self) -> tf.Tensor | None:
        """The absolute positions of the squares that all images are padded to.

        Returns:
            [1, H, W, C], which inference keeps as `square_positions`; None where there are no
            positions, or no squares.
        """
        if self.pos_embed is None or not self._square_pad:
            return None
        side = max(self._square_pad // self._patch_size, 2)
        return get_abs_pos(self.pos_embed, self._has_cls_token, side, side)

    def grid_sizes(self, sizes: tf.Tensor) -> tf.Tensor:
        """The (height, width) in tokens of images of int32 [B, 2] sizes."""
        return tf.maximum(sizes // self._patch_size, 2)

    def valid_sizes(self, sizes: tf.Tensor) -> ValidSizes:
        """The valid sizes of images of int32 [B, 2] sizes, and of their tokens, rounded down."""
        return LevelSizes(sizes, {self._patch_size: self.grid_sizes(sizes)})

    def layer_of(self, name: str) -> int:
        """The layer that a variable of a model belongs to (Detectron2: `get_vit_lr_decay_rate`).

        0 is what comes before the blocks, i + 1 block i without its convolutions, and
        `num_layers` + 1 all the rest.
        """
        if ".pos_embed" in name or ".patch_embed" in name:
            return 0
        if ".blocks." in name and ".residual." not in name:
            return int(name.split(".blocks.")[1].split(".")[0]) + 1
        return self.num_layers + 1

    @profile_scope("backbone")
    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> dict[str, tf.Tensor]:
        """[B, H, W, 3] -> the feature by its name, [B, H // patch_size, W // patch_size, C]."""
        tokens = WHOLE
        if valid_sizes.sizes is not None:
            tokens = ValidSizes(self.grid_sizes(valid_sizes.sizes))
        x = self.patch_embed(_fill(x, 2 * self._patch_size))
        add_intermediates({"patch_embed": x})
        x = self._add_positions(x, tokens)
        for index, block in enumerate(self.blocks):

            def run(x: tf.Tensor, block: Block = block) -> tf.Tensor:
                return block(x, tokens)

            x = activation_checkpoint(run, x) if self._use_act_checkpoint else run(x)
            add_intermediates({f"block{index}": x})
        return {self._out_feature: x}

    def _add_positions(self, x: tf.Tensor, tokens: ValidSizes) -> tf.Tensor:
        if self.pos_embed is None:
            return x
        stored = self.square_positions
        # Other sizes are still interpolated from the table that was trained.
        if stored is not None and tokens.sizes is None and x.shape[1:3] == stored.shape[1:3]:
            return x + tf.cast(stored, x.dtype)
        return add_abs_pos(x, self.pos_embed, self._has_cls_token, tokens)


def _fill(x: tf.Tensor, least: int) -> tf.Tensor:
    """x [B, H, W, C] with zeros below and on the right where H or W is less than `least`."""
    _, height, width, _ = lengths(x)
    if isinstance(height, int) and isinstance(width, int) and min(height, width) >= least:
        return x
    below, right = (tf.maximum(least - length, 0) for length in (height, width))
    return tf.pad(x, [[0, 0], [0, below], [0, right], [0, 0]])


@BACKBONES.register()
def build_vit_backbone(cfg: CfgNode) -> ViT:
    """The ViT of MODEL.VIT alone. The name is this project's: Detectron2 builds it in Python."""
    return ViT.from_config(cfg)
