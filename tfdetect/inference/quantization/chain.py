"""Which int8 layers of a model pass uint8 to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfdetect.inference.quantization.fixed import RoundedConv2d, RoundedInput
from tfdetect.inference.quantization.layers import (
    ConvolutionAsLinear,
    ConvolutionAsTransposed,
    QuantizedConv2d,
    QuantizedInput,
)
from tfdetect.modeling.backbone.blocks import BasicBlock, BottleneckBlock
from tfdetect.modeling.backbone.fpn import FPN, LastLevelP6P7
from tfdetect.modeling.backbone.resnet import ResNet
from tfdetect.modeling.dense.heads import FCOSHead, RetinaNetHead, Subnet
from tfdetect.modeling.proposal_generator.rpn import RPNHead
from tfdetect.modeling.roi_heads.box_head import FastRCNNConvFCHead
from tfdetect.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from tfdetect.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from tfdetect.modeling.roi_heads.res5 import Res5ROIHeads

_Conv = QuantizedConv2d | RoundedConv2d


def chain(model: tf.Module, *, fixed_shapes: bool) -> None:
    """Let layers give the uint8 that all of the layers after them take.

    Where one of those is in float32, or something else reads the tensor, it stays float32.

    Args:
        model: with int8 layers; it changes, and must not have been traced.
        fixed_shapes: whether it has those for graphs of fixed shapes.
    """
    chained = _Chains(RoundedInput if fixed_shapes else QuantizedInput)
    modules = (model, *model.submodules)
    fpns = [module for module in modules if type(module) is FPN]
    below = {id(fpn.bottom_up) for fpn in fpns}
    for fpn in fpns:
        chained.fpn(fpn)
    for module in modules:
        if type(module) is ResNet and id(module) not in below:
            # Whatever reads the features takes float32.
            chained.resnet(module, {name: [None] for name in module.output_shapes})
        elif type(module) is Res5ROIHeads:
            module.res5 = chained.stage(module.res5)
        elif type(module) is RPNHead:
            chained.sequence(module.convs(), [module.objectness_logits, module.anchor_deltas])
        elif type(module) is MaskRCNNConvUpsampleHead:
            chained.sequence([*module._convs, module.deconv], [module.predictor])
        elif type(module) is KRCNNConvDeconvUpsampleHead:
            chained.sequence(module._convs)
        elif type(module) is FastRCNNConvFCHead:
            chained.sequence([*module._convs, *module._fcs])
        elif type(module) in (RetinaNetHead, FCOSHead):
            of_boxes = [module.bbox_pred, getattr(module, "ctrness", module.bbox_pred)]
            chained.subnet(module.cls_subnet, [module.cls_score])
            chained.subnet(module.bbox_subnet, of_boxes)


class _Chains:
    """Links of layers.

    Args:
        rounded_input: the class of a block whose input is quantized before it.
    """

    def __init__(self, rounded_input: Any):
        self._rounded_input = rounded_input

    def sequence(self, layers: Sequence[Any], after: Sequence[Any] = ()) -> None:
        """Layers of which each reads what the one before gives; `after` read the last."""
        for index, layer in enumerate(layers):
            readers = layers[index + 1 : index + 2] or after
            if readers:
                _link(layer, readers)

    def subnet(self, subnet: Subnet, after: Sequence[Any]) -> None:
        """A subnet of a dense head and what reads it."""
        convs, norms = zip(*subnet._steps, strict=True) if subnet._steps else ((), ())
        if not any(norms):
            self.sequence(convs, after)

    def stage(self, blocks: Sequence[Any]) -> list[Any]:
        """The blocks of a stage that is given float32; the last gives float32."""
        blocks = list(blocks)
        for index, block in enumerate(blocks):
            self._block(block)
            if index:
                _link_blocks(blocks[index - 1], [block])
        return [self._with_input(blocks[0]), *blocks[1:]] if blocks else []

    def resnet(self, resnet: ResNet, readers: Mapping[str, Sequence[Any]]) -> None:
        """A backbone whose features, by name, are read by the layers `readers`, or by None."""
        stages = [list(getattr(resnet, name)) for name in resnet._stage_names]
        for index, (name, blocks) in enumerate(zip(resnet._stage_names, stages, strict=True)):
            made = self.stage(blocks)
            if index:
                before = resnet._stage_names[index - 1]
                if _link_blocks(stages[index - 1][-1], blocks[:1], readers.get(before, ())):
                    made[0] = blocks[0]
            setattr(resnet, name, made)
        if stages:
            _link_blocks(stages[-1][-1], (), readers.get(resnet._stage_names[-1], ()))

    def fpn(self, fpn: FPN) -> None:
        """A pyramid and the backbone below it."""
        levels = [
            (name, getattr(fpn, f"fpn_lateral{number}"), getattr(fpn, f"fpn_output{number}"))
            for name, number in zip(fpn._in_features, fpn._stages, strict=True)
        ]
        if not fpn._average:
            for index, (_, lateral, output) in enumerate(levels):
                _link(lateral, [output], [level[1] for level in levels[index - 1 : index]])
        if type(fpn.bottom_up) is not ResNet:
            return
        readers: dict[str, list[Any]] = {name: [] for name in fpn.bottom_up.output_shapes}
        for name, lateral, _ in levels:
            readers[name].append(lateral)
        top = fpn.top_block
        if top.in_feature in readers:
            readers[top.in_feature].append(top.p6 if type(top) is LastLevelP6P7 else None)
        self.resnet(fpn.bottom_up, {name: found or [None] for name, found in readers.items()})

    def _block(self, block: Any) -> None:
        if type(block) is BasicBlock:
            convs = [block.conv1, block.conv2]
        elif type(block) is BottleneckBlock and block.conv2_offset is None:
            convs = [block.conv1, block.conv2, block.conv3]
        else:
            return
        self.sequence(convs)
        shortcut, last = _conv(block.shortcut), _conv(convs[-1])
        if shortcut is not None and shortcut.can_give and last is not None and last.can_give:
            shortcut.gives = last.takes = shortcut.steps.output

    def _with_input(self, block: Any) -> Any:
        readers, residual = _readers(block)
        steps = _common_step(readers)
        if steps is None or not all(_takes_residual(layer) for layer in residual):
            return block
        for layer in residual:
            _conv(layer).takes = steps
        return self._rounded_input(block, steps)


def _conv(layer: Any) -> Any:
    """The int8 convolution of a layer; None if it is none."""
    if isinstance(layer, (ConvolutionAsLinear, ConvolutionAsTransposed)):
        layer = layer.conv
    return layer if isinstance(layer, _Conv) else None


def _readers(block: Any) -> tuple[list[Any], list[Any]]:
    """The layers that a block's input goes to, and those that have it as their residual."""
    if type(block) is BasicBlock:
        last = block.conv2
    elif type(block) is BottleneckBlock:
        last = block.conv3
    else:
        return [None], []
    if block.shortcut is None:
        return [block.conv1], [last]
    return [block.conv1, block.shortcut], []


def _last(block: Any) -> Any:
    if type(block) is BasicBlock:
        return block.conv2
    return block.conv3 if type(block) is BottleneckBlock else None


def _link_blocks(block: Any, blocks: Sequence[Any], others: Sequence[Any] = ()) -> bool:
    """Let a block give what the next ones and other layers read; whether it does."""
    readers, residual = list(others), []
    for after in blocks:
        read, added = _readers(after)
        readers += read
        residual += added
    return _link(_last(block), readers, residual)


def _link(layer: Any, readers: Sequence[Any], residual: Sequence[Any] = ()) -> bool:
    """Let a layer give uint8, if all that read it or add it take that; whether it does."""
    giver, step = _conv(layer), _common_step(readers)
    if giver is None or not giver.can_give or step is None:
        return False
    if not all(_takes_residual(added) for added in residual):
        return False
    giver.gives = step
    for added in residual:
        _conv(added).takes = step
    return True


def _takes_residual(layer: Any) -> bool:
    conv = _conv(layer)
    return conv is not None and conv.can_give


def _common_step(readers: Sequence[Any]) -> Any:
    """The input step that all of these have; None where one is float32 or has another."""
    convs = [_conv(reader) for reader in readers]
    if not convs or any(conv is None for conv in convs):
        return None
    steps = {conv.steps.input for conv in convs}
    return steps.pop() if len(steps) == 1 else None
