"""A model in the form that is fastest where it will run."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from tfdetect.inference.fold import Folded, fold
from tfdetect.inference.packed import (
    PackedConv2d,
    PackedConvTranspose2d,
    PackedGroupNorm,
    PackedLinear,
    PackedRPNHead,
    WinogradConv2d,
)
from tfdetect.inference.quantization.chain import chain
from tfdetect.inference.quantization.make import Layer, LayerMaker, int8_layers
from tfdetect.inference.window_attention import StoredBiasAttention
from tfdetect.inference.winograd import TransformedConv2d
from tfdetect.layers.conv import Conv2d, ConvTranspose2d, as_pointwise
from tfdetect.layers.conv1d import Conv1d
from tfdetect.layers.deform_conv import DeformConv2d
from tfdetect.layers.linear import Linear
from tfdetect.layers.norm import BatchNorm, GroupNorm, Shift
from tfdetect.modeling.backbone.swin import WindowAttention
from tfdetect.modeling.backbone.vit import ViT
from tfdetect.modeling.proposal_generator.rpn import RPNHead
from tfdetect.ops.backend import Backend
from tfdetect.ops.packed_conv import can_pack, can_use_winograd, packing_pays
from tfdetect.ops.winograd import winograd_pays

Model = TypeVar("Model", bound=tf.Module)


def optimize(model: Model, backend: Backend, *, make: LayerMaker | None = None) -> Model:
    """A new model for inference, with the weights that `model` has now.

    Norms of stored statistics are folded into the convolutions before them (`fold`). Then, on a
    CPU with native convolutions, layers become those of `tfdetect.inference.packed`, which take two
    thirds of the time of TensorFlow's; on one without, wide 3 x 3 convolutions become those of
    `tfdetect.inference.winograd`. In bfloat16, what other layers would round at every call is
    rounded once: the results are the same, in half the memory. (Norms and deformable convolutions
    compute in float32 and keep their variables.)

    `model` stays as it is and may go on training; what it becomes does not change the new one.
    Values that are the same in both share their memory until one of them changes. Nothing of the
    new model is trainable, and it does not have the variables of Detectron2's checkpoints.

    Args:
        model: of `build_model`, or any module. Modules and variables are found in attributes,
            lists, tuples and dictionaries, as `tf.Module` finds them; other objects are shared.
            Layers of classes derived from `Conv2d` and the like are copied as they are. A module
            whose convolution and norm are siblings, not `conv.norm`, names such pairs of attributes
            in `normalized`.
        backend: where it will run.
        make: makes what stands for some of the layers; None for the int8 ones that
            `model.quantization` names, if it does.

    Returns:
        A module of the same class, called as `model` is, with images of `backend.dtype`.

    Raises:
        InputError: the model is quantized, and `backend.dtype` is not float32.
    """
    place: contextlib.AbstractContextManager = contextlib.nullcontext()
    if backend.device == "cpu" and tf.config.list_logical_devices("GPU"):
        place = tf.device("CPU:0")
    with place:
        quantized = int8_layers(model, backend) if make is None else None
        optimized = _Optimizer(backend, make or quantized)(model)
        if quantized is not None:
            chain(optimized, fixed_shapes=backend.fixed_shapes)
        return optimized


class _Optimizer:
    """Copies modules; what is in two places in the original is the same in both in the copy."""

    def __init__(self, backend: Backend, make: LayerMaker | None):
        self._backend = backend
        self._make = make
        self._dtype = tf.dtypes.as_dtype(backend.dtype)
        self._transforms = (
            backend.device == "cpu" and backend.dtype == "float32" and not backend.fixed_shapes
        )
        self._made: dict[int, Any] = {}
        self._optimizers: dict[type, Callable[[Any], tf.Module | None]] = {
            Conv2d: lambda conv: self._conv(conv, fold(conv, conv.norm)),
            DeformConv2d: lambda conv: self._deform_conv(conv, fold(conv, conv.norm)),
            ConvTranspose2d: self._conv_transpose,
            Linear: self._linear,
            GroupNorm: self._group_norm,
            Conv1d: self._conv1d,
            RPNHead: self._rpn_head,
            WindowAttention: self._window_attention,
            ViT: self._vit,
        }

    def __call__(self, value: Any) -> Any:
        """The copy of a value of an attribute."""
        if isinstance(value, (tf.Variable, tf.Module)):
            if id(value) not in self._made:
                make = self._variable if isinstance(value, tf.Variable) else self._module
                self._made[id(value)] = make(value)
            return self._made[id(value)]
        if isinstance(value, list):
            return [self(item) for item in value]
        if isinstance(value, tuple):
            items = [self(item) for item in value]
            return value._make(items) if hasattr(value, "_make") else tuple(items)
        # Not what is derived from them, such as a configuration.
        if value.__class__ in (dict, OrderedDict):
            return value.__class__((key, self(item)) for key, item in value.items())
        return value

    def _module(self, module: tf.Module) -> tf.Module:
        optimized = self._optimizers.get(type(module), lambda _: None)(module)
        return self._copy(module, **self._fold_siblings(module)) if optimized is None else optimized

    def _fold_siblings(self, module: tf.Module) -> dict[str, Any]:
        """What happens to convolutions and norms that are named in `normalized`."""
        folded: dict[str, Any] = {}
        for conv_name, norm_name in getattr(module, "normalized", ()):
            conv, norm = getattr(module, conv_name), getattr(module, norm_name, None)
            if isinstance(norm, BatchNorm) and type(conv) in (Conv2d, DeformConv2d):
                values = fold(conv, norm)
                make = self._conv if isinstance(conv, Conv2d) else self._deform_conv
                folded[conv_name] = make(conv, values._replace(norm=None))
                folded[norm_name] = values.norm
                self._made[id(conv)] = folded[conv_name]
        return folded

    def _copy(self, module: tf.Module, **changes: Any) -> Any:
        """A module of the same class, with these attributes in place of the copied ones."""
        copy = object.__new__(type(module))
        tf.Module.__init__(copy, module.name)
        self._made[id(module)] = copy  # what it holds may hold it
        bookkeeping = set(vars(copy))
        for name, value in list(vars(module).items()):
            if name not in bookkeeping and not name.startswith("_self_"):
                setattr(copy, name, changes[name] if name in changes else self(value))
        return copy

    def _variable(self, value: tf.Variable | tf.Tensor, dtype: tf.DType | None = None) -> Any:
        value = tf.convert_to_tensor(value)
        # Not a copy where the type is the same: of a tensor with two owners, TensorFlow copies what
        # is about to change.
        return tf.Variable(value if dtype is None else tf.cast(value, dtype), trainable=False)

    def _conv(self, conv: Conv2d, folded: Folded) -> tf.Module:
        norm = folded.norm if isinstance(folded.norm, Shift) else self(folded.norm)
        values = folded._replace(norm=norm)
        return self._choose(conv, values, lambda values: self._float_conv(conv, values))

    def _choose(
        self, layer: Layer, values: Folded, usual: Callable[[Folded], tf.Module]
    ) -> tf.Module:
        """What `make` makes of a layer, or else `usual` of its folded values."""
        if self._make is not None and self._make.replaces(layer):
            return self._make(layer, values, usual)
        return usual(values)

    def _float_conv(self, conv: Conv2d, folded: Folded) -> tf.Module:
        weight, bias, norm = folded
        packs = self._packs(weight.shape, conv.stride, conv.dilation, conv.groups)
        winograd = conv.dilation == 1 and can_use_winograd(
            weight.shape, conv.stride, conv.padding, conv.groups
        )
        if not packs and not (self._transforms and winograd and winograd_pays(weight.shape)):
            return self._copy(
                conv,
                weight=self._variable(weight, self._dtype),
                bias=None if bias is None else self._variable(bias, self._dtype),
                norm=norm,
            )
        if bias is None:
            bias = tf.zeros(weight.shape[3:])
            if isinstance(norm, Shift):
                bias, norm = -norm.negative, None
        if not packs:
            return TransformedConv2d(weight, bias, norm)
        weight = tf.cast(weight, self._dtype)
        if winograd:
            return WinogradConv2d(weight, bias, norm)
        options = {"stride": conv.stride, "padding": conv.padding, "groups": conv.groups}
        return PackedConv2d(weight, bias, norm, **options)

    def _packs(
        self, shape: tf.TensorShape, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> bool:
        return (
            self._backend.native_sums
            and dilation == 1
            and can_pack(shape, groups)
            and packing_pays(shape, stride, groups, self._backend.instruction_set)
        )

    def _deform_conv(self, conv: DeformConv2d, folded: Folded) -> tf.Module:
        norm = folded.norm if isinstance(folded.norm, Shift) else self(folded.norm)
        return self._copy(conv, weight=self._variable(folded.weight), norm=norm)

    def _conv_transpose(self, conv: ConvTranspose2d) -> tf.Module:
        values = _unfolded(conv)
        return self._choose(conv, values, lambda values: self._float_conv_transpose(conv, values))

    def _float_conv_transpose(self, conv: ConvTranspose2d, values: Folded) -> tf.Module:
        if conv.weight.shape[0] == 2:
            weight = as_pointwise(values.weight)
            if self._packs(weight.shape):
                return PackedConvTranspose2d(tf.cast(weight, self._dtype), values.bias)
        return self._rounded(conv, values)

    def _linear(self, linear: Linear) -> tf.Module:
        values = _unfolded(linear)
        return self._choose(linear, values, lambda values: self._float_linear(linear, values))

    def _float_linear(self, linear: Linear, values: Folded) -> tf.Module:
        weight, bias, _ = values
        if not self._packs(tf.TensorShape([1, 1, *weight.shape])):
            return self._rounded(linear, values)
        if bias is None:
            bias = tf.zeros(weight.shape[1:])
        return PackedLinear(tf.cast(weight, self._dtype), bias)

    def _group_norm(self, norm: GroupNorm) -> tf.Module | None:
        """None where it stays as it is."""
        fits = self._backend.native_sums and norm.weight.shape[0] % 8 == 0
        return PackedGroupNorm(norm) if fits else None

    def _conv1d(self, conv: Conv1d) -> tf.Module:
        return self._rounded(conv, _unfolded(conv))

    def _rounded(self, layer: ConvTranspose2d | Linear | Conv1d, values: Folded) -> tf.Module:
        weight, bias = (
            None if value is None else self._variable(value, self._dtype) for value in values[:2]
        )
        return self._copy(layer, weight=weight, bias=bias)

    def _window_attention(self, layer: WindowAttention) -> tf.Module:
        return StoredBiasAttention(layer, self(layer.qkv), self(layer.proj), self._dtype)

    def _vit(self, vit: ViT) -> tf.Module:
        positions = vit.make_square_positions()
        stored = None if positions is None else self._variable(positions, self._dtype)
        return self._copy(vit, square_positions=stored)

    def _rpn_head(self, head: RPNHead) -> tf.Module | None:
        """None where it is not packed."""
        parts = (head.objectness_logits, head.anchor_deltas)
        if self._make is not None and any(self._make.replaces(part) for part in parts):
            return None
        weight = tf.concat([part.weight for part in parts], 3)
        bias = tf.concat([part.bias for part in parts], 0)
        filled = [*weight.shape[:3], -(-weight.shape[3] // 16) * 16]
        if not self._packs(tf.TensorShape(filled)):
            return None
        anchors = head.objectness_logits.weight.shape[3]
        convs = [self(conv) for conv in head.convs()]
        return PackedRPNHead(convs, tf.cast(weight, self._dtype), bias, anchors)


def _unfolded(layer: ConvTranspose2d | Linear | Conv1d) -> Folded:
    """The values of a layer that has no norm."""
    bias = None if layer.bias is None else tf.convert_to_tensor(layer.bias)
    return Folded(tf.convert_to_tensor(layer.weight), bias, None)
