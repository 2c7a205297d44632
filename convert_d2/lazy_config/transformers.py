"""ViT, SimpleFeaturePyramid, Swin and MViT of a LazyConfig, into MODEL's keys."""

from __future__ import annotations

from typing import Any

from convert_d2.lazy_config.arguments import Arguments, aliases, converts, is_number, show
from convert_d2.lazy_config.features import BACKBONE, Body
from convert_d2.lazy_config.interpolation import Name, Partial
from tfdetect.config.mvit import FEATURES

_LAYER_NORM = "torch.nn.modules.normalization.LayerNorm"
_GELU = "torch.nn.modules.activation.GELU"


def _expect_layer_norm(args: Arguments, eps: float) -> None:
    """Take `norm_layer`: LayerNorm with the `eps` that the backbone has here."""
    value = args.take("norm_layer", Name(_LAYER_NORM))
    function: Any = value
    keywords: dict[Any, Any] = {}
    if isinstance(value, Partial) and not value.args:
        function, keywords = value.function, value.keywords
    elif isinstance(value, Name):
        function = value.name
    given = keywords.get("eps", 1e-5)
    if (
        not isinstance(function, str)
        or function not in set(aliases(_LAYER_NORM))
        or set(keywords) - {"eps"}
    ):
        raise args.error(
            "norm_layer", f"is {show(value)}; only LayerNorm with eps {eps} is supported"
        )
    if given != eps:
        raise args.error(
            "norm_layer", f"is LayerNorm with eps {show(given)}; only eps {eps} is supported"
        )


def _expect_common(args: Arguments) -> None:
    """Take the arguments of ViT and MViT that can have one value here."""
    args.expect("in_chans", 3, "images have three channels here", default=3)
    _expect_layer_norm(args, 1e-6)
    _expect_gelu(args)
    if not args.flag("rel_pos_zero_init", True):
        args.note("rel_pos_zero_init", "false has no counterpart; training starts from zeros")


def _expect_gelu(args: Arguments) -> None:
    value = args.take("act_layer", Name(_GELU))
    if not isinstance(value, Name) or value.name not in set(aliases(_GELU)):
        raise args.error("act_layer", f"is {show(value)}; only torch.nn.GELU is supported")


def _set_name(args: Arguments, name: str, *, alone: bool) -> None:
    """MODEL.BACKBONE, of a backbone that no pyramid is on top of; nothing freezes by number."""
    if alone:
        args.set("MODEL.BACKBONE.NAME", "_target_", name)
    args.set("MODEL.BACKBONE.FREEZE_AT", "_target_", 0)


def _set_each(args: Arguments, section: str, **of_type: Any) -> None:
    for name, value in of_type.items():
        args.set(f"MODEL.{section}.{name.upper()}", name, value)


@converts("detectron2.modeling.backbone.vit.ViT", BACKBONE)
def _vit(args: Arguments, below_pyramid: bool = False) -> Body:
    _expect_common(args)
    patch_size = args.integer("patch_size", 16)
    width = args.integer("embed_dim", 768)
    _set_each(
        args,
        "VIT",
        img_size=args.integer("img_size", 1024),
        patch_size=patch_size,
        embed_dim=width,
        depth=args.integer("depth", 12),
        num_heads=args.integer("num_heads", 12),
        mlp_ratio=float(args.number("mlp_ratio", 4.0)),
        qkv_bias=args.flag("qkv_bias", True),
        drop_path_rate=float(args.number("drop_path_rate", 0.0)),
        use_abs_pos=args.flag("use_abs_pos", True),
        use_rel_pos=args.flag("use_rel_pos", False),
        window_size=args.integer("window_size", 0),
        window_block_indexes=args.integers("window_block_indexes", ()),
        residual_block_indexes=args.integers("residual_block_indexes", ()),
        use_act_checkpoint=args.flag("use_act_checkpoint", False),
        pretrain_img_size=args.integer("pretrain_img_size", 224),
        pretrain_use_cls_token=args.flag("pretrain_use_cls_token", True),
    )
    args.expect("out_feature", "last_feat", "it has that name here", default="last_feat")
    _set_name(args, "build_vit_backbone", alone=not below_pyramid)
    return Body("vit", {"last_feat": (width, patch_size)})


@converts("detectron2.modeling.backbone.vit.SimpleFeaturePyramid", BACKBONE)
def _simple_feature_pyramid(args: Arguments) -> Body:
    net: Body = args.part("net", BACKBONE, below_pyramid=True)
    args.expect("in_feature", "last_feat", "it is the ViT's only feature map")
    channels = args.integer("out_channels")
    factors = [float(factor) for factor in args.numbers("scale_factors")]
    key = "MODEL.SIMPLE_FEATURE_PYRAMID."
    args.set(f"{key}OUT_CHANNELS", "out_channels", channels)
    args.set(f"{key}SCALE_FACTORS", "scale_factors", factors)
    args.norm(f"{key}NORM", "norm", "LN")
    args.set("MODEL.BACKBONE.SQUARE_PAD", "square_pad", args.integer("square_pad", 0))
    args.set("MODEL.BACKBONE.NAME", "_target_", "build_vit_simple_feature_pyramid_backbone")
    patch_size = net.features["last_feat"][1]
    if not factors or any(factor not in (4, 2, 1, 0.5) for factor in factors):
        raise args.error("scale_factors", f"is {show(factors)}; give some of 4, 2, 1, 0.5")
    strides = [int(patch_size / factor) for factor in factors]
    if min(strides) < 1:
        raise args.error("net.patch_size", f"is {patch_size}; give a power of 2, 4 or more")
    top = args.take("top_block", None)
    names = set(aliases("detectron2.modeling.backbone.fpn.LastLevelMaxPool"))
    if not isinstance(top, dict) or len(top) != 1 or _target(top) not in names:
        raise args.error("top_block", f"is {show(top)}; give LastLevelMaxPool")
    strides.append(2 * strides[-1])
    return Body("simple", {f"p{stride.bit_length() - 1}": (channels, stride) for stride in strides})


def _target(call: dict[Any, Any]) -> Any:
    target = call.get("_target_")
    return target.name if isinstance(target, Name) else target


@converts("detectron2.modeling.backbone.swin.SwinTransformer", BACKBONE)
def _swin(args: Arguments, below_fpn: bool = False) -> Body:
    args.expect("in_chans", 3, "images have three channels here", default=3)
    _expect_layer_norm(args, 1e-5)
    for name in ("drop_rate", "attn_drop_rate"):
        args.expect(name, 0, "dropout has no counterpart here", default=0)
    width = args.integer("embed_dim", 96)
    patch_size = args.integer("patch_size", 4)
    depths = args.integers("depths", (2, 2, 6, 2))
    indices = args.integers("out_indices", (0, 1, 2, 3))
    if patch_size < 1:
        raise args.error("patch_size", f"is {patch_size}; give 4")
    if any(index not in range(len(depths)) for index in indices):
        raise args.error(
            "out_indices", f"is {show(indices)}; give stages from 0 to {len(depths) - 1}"
        )
    scale = args.take("qk_scale", None)
    if scale is not None and (not is_number(scale) or scale <= 0):
        raise args.error("qk_scale", f"is {show(scale)}; give a positive number or null")
    _set_each(
        args,
        "SWIN",
        pretrain_img_size=args.integer("pretrain_img_size", 224),
        patch_size=patch_size,
        embed_dim=width,
        depths=depths,
        num_heads=args.integers("num_heads", (3, 6, 12, 24)),
        window_size=args.integer("window_size", 7),
        mlp_ratio=float(args.number("mlp_ratio", 4.0)),
        qkv_bias=args.flag("qkv_bias", True),
        qk_scale=float(scale or 0.0),
        drop_path_rate=float(args.number("drop_path_rate", 0.2)),
        ape=args.flag("ape", False),
        patch_norm=args.flag("patch_norm", True),
        out_indices=indices,
        frozen_stages=args.integer("frozen_stages", -1),
        use_checkpoint=args.flag("use_checkpoint", False),
    )
    _set_name(args, "build_swin_backbone", alone=not below_fpn)
    return Body("swin", {f"p{index}": (width << index, patch_size << index) for index in indices})


@converts("detectron2.modeling.backbone.mvit.MViT", BACKBONE)
def _mvit(args: Arguments, below_fpn: bool = False) -> Body:
    _expect_common(args)
    width = args.integer("embed_dim", 96)
    stride = args.integers("patch_stride", (4, 4))
    last_blocks = args.integers("last_block_indexes", (0, 2, 11, 15))
    out_features = args.names("out_features", FEATURES)
    _set_each(
        args,
        "MVIT",
        img_size=args.integer("img_size", 224),
        patch_kernel=args.integers("patch_kernel", (7, 7)),
        patch_stride=stride,
        patch_padding=args.integers("patch_padding", (3, 3)),
        embed_dim=width,
        depth=args.integer("depth", 16),
        num_heads=args.integer("num_heads", 1),
        last_block_indexes=last_blocks,
        qkv_pool_kernel=args.integers("qkv_pool_kernel", (3, 3)),
        adaptive_kv_stride=args.integer("adaptive_kv_stride", 4),
        adaptive_window_size=args.integer("adaptive_window_size", 56),
        residual_pooling=args.flag("residual_pooling", True),
        mlp_ratio=float(args.number("mlp_ratio", 4.0)),
        qkv_bias=args.flag("qkv_bias", True),
        drop_path_rate=float(args.number("drop_path_rate", 0.0)),
        use_abs_pos=args.flag("use_abs_pos", False),
        use_rel_pos=args.flag("use_rel_pos", True),
        use_act_checkpoint=args.flag("use_act_checkpoint", False),
        pretrain_img_size=args.integer("pretrain_img_size", 224),
        pretrain_use_cls_token=args.flag("pretrain_use_cls_token", True),
        out_features=out_features,
    )
    _set_name(args, "build_mvit_backbone", alone=not below_fpn)
    if len(stride) != 2 or min(stride) < 1:
        raise args.error("patch_stride", f"is {show(stride)}; give two equal powers of 2")
    stages = {name: stage for stage, name in enumerate(FEATURES[: len(last_blocks)])}
    if unknown := [name for name in out_features if name not in stages]:
        raise args.error("out_features", f"{unknown[0]!r} is not one of {', '.join(stages)}")
    return Body(
        "mvit", {name: (width << stages[name], stride[0] << stages[name]) for name in out_features}
    )
