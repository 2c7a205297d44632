"""Which layers of a model follow one another, with nothing between them that needs float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfdetect.modeling.backbone.blocks import BasicBlock, BottleneckBlock
from tfdetect.modeling.backbone.fpn import FPN, LastLevelP6P7
from tfdetect.modeling.backbone.resnet import ResNet
from tfdetect.modeling.dense.heads import FCOSHead, RetinaNetHead, Subnet
from tfdetect.modeling.proposal_generator.rpn import RPNHead
from tfdetect.modeling.roi_heads.box_head import FastRCNNConvFCHead
from tfdetect.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from tfdetect.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from tfdetect.modeling.roi_heads.res5 import Res5ROIHeads


@dataclass
class Link:
    """A tensor of a model.

    Attributes:
        giver: the layer whose output it is; None where it is that of something else.
        readers: the layers that it is the input of, and None for what else reads it; those of
            `block`, if there is one.
        residual: the layers that add it to their output.
        others: further readers, outside of the block.
        block: the block whose input it is: the module, the name of its stage and the index there.
    """

    giver: Any
    readers: list[Any]
    residual: list[Any] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)
    block: tuple[tf.Module, str, int] | None = None


def find_links(model: tf.Module) -> list[Link]:
    """The links between the layers of a model, as it was built or as `optimize` made it.

    A layer whose output goes only to what is not known here has none.
    """
    modules = (model, *model.submodules)
    fpns = [module for module in modules if type(module) is FPN]
    below = {id(fpn.bottom_up) for fpn in fpns}
    links: list[Link] = []
    for fpn in fpns:
        links += _fpn(fpn)
    for module in modules:
        if type(module) is ResNet and id(module) not in below:
            # Whatever reads the features takes float32.
            links += _resnet(module, {name: [None] for name in module.output_shapes})
        elif type(module) is Res5ROIHeads:
            links += _stages(module, ["res5"], {})
        elif type(module) is RPNHead:
            links += _sequence(module.convs(), [module.objectness_logits, module.anchor_deltas])
        elif type(module) is MaskRCNNConvUpsampleHead:
            links += _sequence([*module._convs, module.deconv], [module.predictor])
        elif type(module) is KRCNNConvDeconvUpsampleHead:
            links += _sequence(module._convs)
        elif type(module) is FastRCNNConvFCHead:
            links += _sequence([*module._convs, *module._fcs])
        elif type(module) in (RetinaNetHead, FCOSHead):
            of_boxes = [module.bbox_pred, getattr(module, "ctrness", module.bbox_pred)]
            links += _subnet(module.cls_subnet, [module.cls_score])
            links += _subnet(module.bbox_subnet, of_boxes)
    return links


def _sequence(layers: Sequence[Any], after: Sequence[Any] = ()) -> Iterator[Link]:
    """Layers of which each reads what the one before gives; `after` read the last."""
    for index, layer in enumerate(layers):
        readers = list(layers[index + 1 : index + 2] or after)
        if readers:
            yield Link(layer, readers)


def _subnet(subnet: Subnet, after: Sequence[Any]) -> Iterator[Link]:
    convs, norms = zip(*subnet._steps, strict=True) if subnet._steps else ((), ())
    if not any(norms):
        yield from _sequence(convs, after)


def _fpn(fpn: FPN) -> Iterator[Link]:
    """A pyramid and the backbone below it."""
    levels = [
        (name, getattr(fpn, f"fpn_lateral{number}"), getattr(fpn, f"fpn_output{number}"))
        for name, number in zip(fpn._in_features, fpn._stages, strict=True)
    ]
    if not fpn._average:
        for index, (_, lateral, output) in enumerate(levels):
            yield Link(lateral, [output], [level[1] for level in levels[:index][-1:]])
    if type(fpn.bottom_up) is not ResNet:
        return
    readers: dict[str, list[Any]] = {name: [] for name in fpn.bottom_up.output_shapes}
    for name, lateral, _ in levels:
        readers[name].append(lateral)
    top = fpn.top_block
    if top.in_feature in readers:
        readers[top.in_feature].append(top.p6 if type(top) is LastLevelP6P7 else None)
    yield from _resnet(fpn.bottom_up, {name: found or [None] for name, found in readers.items()})


def _resnet(resnet: ResNet, readers: Mapping[str, Sequence[Any]]) -> Iterator[Link]:
    """A backbone whose features, by name, are read by these layers."""
    yield from _stages(resnet, resnet._stage_names, readers)


def _stages(
    owner: tf.Module, names: Sequence[str], readers: Mapping[str, Sequence[Any]]
) -> Iterator[Link]:
    """The blocks of stages, one after the other; a stage's output goes to its readers, too."""
    giver: Any = None
    others: list[Any] = []
    for name in names:
        for index, block in enumerate(getattr(owner, name)):
            read, added = _readers(block)
            yield Link(giver, read, added, others, (owner, name, index))
            yield from _block(block)
            giver, others = _last(block), []
        others = list(readers.get(name, ()))
    if giver is not None and others:
        yield Link(giver, [], others=others)


def _block(block: Any) -> Iterator[Link]:
    if type(block) is BasicBlock:
        convs = [block.conv1, block.conv2]
    elif type(block) is BottleneckBlock and block.conv2_offset is None:
        convs = [block.conv1, block.conv2, block.conv3]
    elif type(block) is BottleneckBlock:
        convs = [block.conv3]
    else:
        return
    yield from _sequence(convs)
    if block.shortcut is not None:
        yield Link(block.shortcut, [], [convs[-1]])


def _readers(block: Any) -> tuple[list[Any], list[Any]]:
    """The layers that a block's input goes to, and those that have it as their residual."""
    last = _last(block)
    if last is None:
        return [None], []
    if block.shortcut is None:
        return [block.conv1], [last]
    return [block.conv1, block.shortcut], []


def _last(block: Any) -> Any:
    if type(block) is BasicBlock:
        return block.conv2
    return block.conv3 if type(block) is BottleneckBlock else None
