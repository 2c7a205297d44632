"""Post-training static quantization: ranges and errors, measured on images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from yacs.config import CfgNode

from tfdetect.checkpoint.quantization import LEAST_DECIBELS, LayerSteps, Quantization
from tfdetect.errors import InputError
from tfdetect.inference.fold import Folded
from tfdetect.inference.optimization import optimize
from tfdetect.inference.predictor import Predictor
from tfdetect.inference.quantization.choice import find_layers
from tfdetect.inference.quantization.make import Layer, quantized_layer
from tfdetect.inference.quantization.observe import ComparedLayer, ObservedLayer
from tfdetect.layers.norm import Shift
from tfdetect.ops.backend import Backend


def quantize_model(
    cfg: CfgNode,
    model: tf.Module,
    metadata: dict[str, Any],
    images: Callable[[], Iterable[np.ndarray]],
    *,
    method: str = "mse",
    percentile: float = 99.99,
    least_decibels: float = LEAST_DECIBELS,
    keep: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
) -> Quantization:
    """Measure how a model's layers become int8. The model stays as it is.

    Each image goes through the whole model twice. The first time the values of each layer's
    tensors are counted, which gives their ranges. The second time every layer also computes its
    output in int8, from the same float32 input: a layer whose error is large stays in float32.

    Args:
        cfg: what the model was built from.
        model: of `build_model`, with its weights.
        metadata: as in a model directory.
        images: gives all of them, uint8 [H, W, 3] BGR, whenever it is called; such as the model is
            for.
        method, percentile: see `Observer.step`.
        least_decibels: of a layer that becomes int8, see `LayerSteps`.
        keep: patterns (shell style) of layers that stay in float32, by their paths.
        origin: what `Quantization.origin` says beside the method.

    Raises:
        InputError: a pattern is that of no layer, a tensor has values that are not finite, or no
            layer can be int8.
    """
    layers, kept = find_layers(model, keep)
    cfg = _without_augmentation(cfg)
    backend = Backend.for_device()
    observing = _Making(layers, lambda name, *made: _observed(*made))
    predictor = Predictor.of_model(cfg, optimize(model, backend, make=observing), metadata, backend)
    count = 0
    for image in images():
        predictor(image)
        count += 1
    steps = {}
    for name in layers:
        observed = observing.made.get(name)
        if observed is None or not observed.input.values:
            kept[name] = "no image gave it anything to do"
            continue
        ends = (observed.input, observed.output)
        if not all(part.is_finite for part in ends):
            raise InputError(f"{name}: has values that are not finite; the model cannot be used")
        if any(part.is_zero for part in ends):
            kept[name] = "no image gave it, or got from it, anything but zeros"
            continue
        has_product = observed.product.values > 0
        steps[name] = LayerSteps(
            observed.input.step(method, percentile),
            observed.product.step(method, percentile) if has_product else None,
            observed.output.step(method, percentile),
            0.0,
        )
    del observing, predictor
    chosen = {name: layer for name, layer in layers.items() if name in steps}
    comparing = _Making(chosen, lambda name, *made: _compared(steps[name], *made))
    predictor = Predictor.of_model(cfg, optimize(model, backend, make=comparing), metadata, backend)
    for image in images():
        predictor(image)
    quantized = {}
    for name, found in steps.items():
        decibels = round(comparing.made[name].decibels, 2)
        if decibels < least_decibels:
            kept[name] = f"its error is {decibels:.1f} dB, of at least {least_decibels:g} dB"
        else:
            quantized[name] = LayerSteps(found.input, found.product, found.output, decibels)
    if not quantized:
        raise InputError(
            "none of the layers can be int8: "
            + "; ".join(sorted(f"{name} {reason}" for name, reason in kept.items())[:3])
        )
    made = {"method": method, "images": count}
    if method == "percentile":
        made["percentile"] = percentile
    made["least_decibels"] = least_decibels
    return Quantization(quantized, kept, {**(origin or {}), **made})


class _Making:
    """A `LayerMaker` of layers by name, which keeps what it made."""

    def __init__(self, layers: Mapping[str, Layer], make: Callable[..., Any]):
        self._names = {id(layer): name for name, layer in layers.items()}
        self._make = make
        self.made: dict[str, Any] = {}

    def replaces(self, layer: Layer) -> bool:
        return id(layer) in self._names

    def __call__(
        self, layer: Layer, values: Folded, usual: Callable[[Folded], tf.Module]
    ) -> tf.Module:
        name = self._names[id(layer)]
        self.made[name] = self._make(name, layer, values, usual)
        return self.made[name]


def _observed(layer: Layer, values: Folded, usual: Callable[[Folded], tf.Module]) -> ObservedLayer:
    norm = None if isinstance(values.norm, Shift) else values.norm
    without = values if norm is None else values._replace(norm=None)
    return ObservedLayer(usual(without), norm, getattr(layer, "stride", 1))


def _compared(
    steps: LayerSteps, layer: Layer, values: Folded, usual: Callable[[Folded], tf.Module]
) -> ComparedLayer:
    return ComparedLayer(usual(values), quantized_layer(layer, values, steps, fixed_shapes=False))


def _without_augmentation(cfg: CfgNode) -> CfgNode:
    """Each image as it is, not several of it."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.AUG.ENABLED = False
    cfg.freeze()
    return cfg
