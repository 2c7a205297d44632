"""MViTv2, the multi-scale vision transformer (Li et al., 2022), as Detectron2 builds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.config.mvit import FEATURES, plan_blocks
from tfdetect.layers.activation_checkpoint import activation_checkpoint
from tfdetect.layers.conv import Conv2d, max_pool
from tfdetect.layers.drop_path import add_branch, drop_path
from tfdetect.layers.intermediates import add_intermediates
from tfdetect.layers.linear import Linear, Mlp
from tfdetect.layers.norm import LayerNorm
from tfdetect.layers.profile_scope import profile_scope
from tfdetect.layers.valid_sizes import WHOLE, ValidSizes
from tfdetect.modeling.backbone.multi_scale_attention import EPSILON, MultiScaleAttention
from tfdetect.modeling.backbone.positions import add_abs_pos
from tfdetect.modeling.registries import BACKBONES


class MultiScaleBlock(tf.Module):
    """Multi-scale attention and two linear layers (Detectron2's `MultiScaleBlock`).

    What stands beside the attention is x, or where channels change a projection of the normalised
    x; where queries are pooled, it is max-pooled.

    Args:
        dim, dim_out, num_heads: of `MultiScaleAttention`, as is `attention`.
        mlp_ratio: the width between the linear layers, in `dim_out`s.
        drop_path_rate: how often, in training, each of both branches is left out.
        stride_q: of the pooling of queries, a power of 2.
        attention: further arguments.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        *,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        stride_q: int = 1,
        **attention: Any,
    ):
        super().__init__()
        self.stride = stride_q
        self._drop_path_rate = drop_path_rate
        self.norm1 = LayerNorm(dim, EPSILON)
        self.attn = MultiScaleAttention(dim, dim_out, num_heads, stride_q=stride_q, **attention)
        self.norm2 = LayerNorm(dim_out, EPSILON)
        self.mlp = Mlp(dim_out, int(dim_out * mlp_ratio))
        self.proj = Linear(dim, dim_out) if dim != dim_out else None

    def __call__(self, x: tf.Tensor, tokens: ValidSizes = WHOLE) -> tf.Tensor:
        """[B, H, W, dim] -> [B, H / stride_q, W / stride_q, dim_out], rounded up.

        Args:
            x: the tokens.
            tokens: their valid sizes.
        """
        normed = self.norm1(x)
        y = drop_path(self.attn(normed, tokens), self._drop_path_rate)
        if self.proj is not None:
            x = self.proj(normed)
        if self.stride > 1:
            x = max_pool_tokens(x, self.stride, tokens)
        x += y
        return add_branch(x, self.mlp, self.norm2(x), self._drop_path_rate)


def max_pool_tokens(x: tf.Tensor, stride: int, tokens: ValidSizes) -> tf.Tensor:
    """The maximum of stride + 1 tokens, of x [B, H, W, C] with these valid sizes."""
    x = tokens.fill(x, x.dtype.min)
    x = max_pool(x, stride + 1, stride, (stride + 1) // 2)
    return tokens.strided(stride).fill(x, 0.0)


class PatchEmbed(tf.Module):
    """Overlapping patches of an image as tokens (Detectron2's `PatchEmbed`).

    Args:
        kernel: side of a patch in pixels, odd; half of it, rounded down, is the padding.
        stride: from patch to patch, in pixels.
        dim: channels of a token.
    """

    def __init__(self, kernel: int, stride: int, dim: int):
        super().__init__()
        self.proj = Conv2d(3, dim, kernel, stride=stride, padding=kernel // 2)

    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> tf.Tensor:
        """[B, H, W, 3] to [B, H / stride, W / stride, dim], rounded up."""
        return self.proj(x, valid_sizes)


class MViT(tf.Module):
    """The backbone: stages of strides 4, 8, 16 and 32, whose normalised outputs are scale2 ... 5.

    Args:
        img_size: side in pixels of the images that the relative positions are for.
        patch_kernel, patch_stride: of `PatchEmbed`, the stride a power of 2.
        embed_dim: channels of the first stage; each stage has twice those of the one before.
        depth: how many blocks.
        num_heads: of the first stage; each has twice those of the one before.
        last_block_indexes: the last blocks of the stages. All but the first have no windows.
        qkv_pool_kernel: side of the pooling convolutions.
        adaptive_kv_stride: of the pooling of keys and values in the first stage, a power of 2; half
            of it in each that follows, and twice it in the last blocks of the second and the third.
        adaptive_window_size: side of the windows, in tokens, in the first stage; each stage after
            its first block has half of that before.
        residual_pooling, qkv_bias: of `MultiScaleAttention`.
        mlp_ratio: of `MultiScaleBlock`.
        drop_path_rate: of the last block; that of block i is i / (depth - 1) of it.
        use_abs_pos: whether there are absolute positions, `pos_embed`.
        use_rel_pos: whether blocks have relative positions.
        use_act_checkpoint: whether training computes each block again for its gradients, and does
            not keep what is within it.
        pretrain_img_size: side in pixels of the images that `pos_embed` is for.
        pretrain_use_cls_token: whether `pos_embed` begins with that of a class token.
        out_features: of scale2, scale3, scale4 and scale5.
    """

    # Detectron2 says 0: the image batch is not padded to a multiple of anything.
    size_divisibility = 1

    def __init__(
        self,
        *,
        img_size: int = 224,
        patch_kernel: int = 7,
        patch_stride: int = 4,
        embed_dim: int = 96,
        depth: int = 16,
        num_heads: int = 1,
        last_block_indexes: Sequence[int] = (0, 2, 11, 15),
        qkv_pool_kernel: int = 3,
        adaptive_kv_stride: int = 4,
        adaptive_window_size: int = 56,
        residual_pooling: bool = True,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        use_abs_pos: bool = False,
        use_rel_pos: bool = True,
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_features: Sequence[str] = ("scale2", "scale3", "scale4", "scale5"),
    ):
        super().__init__()
        self._patch_stride = patch_stride
        self._has_cls_token = pretrain_use_cls_token
        self._use_act_checkpoint = use_act_checkpoint
        self._last_blocks = dict(zip(last_block_indexes, FEATURES, strict=True))
        self.pos_embed = None
        if use_abs_pos:
            positions = (pretrain_img_size // patch_stride) ** 2 + int(pretrain_use_cls_token)
            self.pos_embed = tf.Variable(tf.zeros([1, positions, embed_dim]))
        self.patch_embed = PatchEmbed(patch_kernel, patch_stride, embed_dim)
        self.blocks = []
        shapes = {}
        dim = embed_dim
        plans = plan_blocks(depth, last_block_indexes, adaptive_kv_stride, adaptive_window_size)
        rates = np.linspace(0, drop_path_rate, depth).tolist()
        for index, (plan, rate) in enumerate(zip(plans, rates, strict=True)):
            side = img_size // patch_stride // 2**plan.halved
            self.blocks.append(
                MultiScaleBlock(
                    dim,
                    embed_dim * 2**plan.stage,
                    num_heads * 2**plan.stage,
                    mlp_ratio=mlp_ratio,
                    drop_path_rate=rate,
                    stride_q=plan.stride_q,
                    stride_kv=plan.stride_kv,
                    qkv_bias=qkv_bias,
                    pool_kernel=qkv_pool_kernel,
                    residual_pooling=residual_pooling,
                    window_size=plan.window_size,
                    rel_pos_size=side if use_rel_pos else None,
                )
            )
            dim = embed_dim * 2**plan.stage
            if index in self._last_blocks:
                shapes[self._last_blocks[index]] = (dim, patch_stride * 2**plan.stage)
        self.output_shapes = {name: shapes[name] for name in shapes if name in out_features}
        for name, (channels, _) in self.output_shapes.items():
            setattr(self, f"{name}_norm", LayerNorm(channels, EPSILON))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> MViT:
        """From MODEL.MVIT, whose keys are the arguments; pairs there have two equal numbers."""
        options = {key.lower(): value for key, value in cfg.MODEL.MVIT.items()}
        del options["patch_padding"]
        for key in ("patch_kernel", "patch_stride", "qkv_pool_kernel"):
            options[key] = options[key][0]
        return cls(**options)

    @profile_scope("backbone")
    def __call__(self, x: tf.Tensor, valid_sizes: ValidSizes = WHOLE) -> dict[str, tf.Tensor]:
        """[N, H, W, 3] -> the features by name (scale2 .. scale5)."""
        x = self.patch_embed(x, valid_sizes)
        add_intermediates({"patch_embed": x})
        tokens = valid_sizes.strided(self._patch_stride)
        if self.pos_embed is not None:
            x = add_abs_pos(x, self.pos_embed, self._has_cls_token, tokens)
        features = {}
        for index, block in enumerate(self.blocks):

            def run(
                x: tf.Tensor, block: MultiScaleBlock = block, tokens: ValidSizes = tokens
            ) -> tf.Tensor:
                return block(x, tokens)

            x = activation_checkpoint(run, x) if self._use_act_checkpoint else run(x)
            add_intermediates({f"block{index}": x})
            tokens = tokens.strided(block.stride)
            name = self._last_blocks.get(index)
            if name in self.output_shapes:
                features[name] = getattr(self, f"{name}_norm")(x)
        add_intermediates(features)
        return features


@BACKBONES.register()
def build_mvit_backbone(cfg: CfgNode) -> MViT:
    """The MViT of MODEL.MVIT alone. The name is this project's: Detectron2 builds it in Python."""
    return MViT.from_config(cfg)
