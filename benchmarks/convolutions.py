"""Each convolution of the zoo's models, tfdetect's kernel beside TensorFlow's.

What `packing_pays` (tfdetect/ops/packed_conv.py) and docs/convolutions.md are made of. The two run
in turns in one process, each with the bias and the ReLU that follow it in a prediction; a row gives
the least processor time of each (of all threads: other users of the machine change it less than
the time that passes), their ratio, and the median of the ratios of each turn. TensorFlow has two
kinds of convolutions, its own and oneDNN's; which it takes by default depends on the processor, and
TF_ENABLE_ONEDNN_OPTS chooses.

    TF_ENABLE_ONEDNN_OPTS=0 python benchmarks/convolutions.py [--runs N] [--threads N]
    TF_ENABLE_ONEDNN_OPTS=1 python benchmarks/convolutions.py --match X101

With --int8 it is tfdetect's quantized convolution beside its float32 one, each with the rate of the
products that the definition has.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from machine import processor


@dataclass(frozen=True)
class Layer:
    """A convolution: kernel, channels, and the map that it reads (of an image of 800 x 1216)."""

    name: str
    kernel_size: int
    inputs: int
    outputs: int
    height: int
    width: int
    stride: int = 1
    groups: int = 1
    images: int = 1


def _layers() -> list[Layer]:
    layers = [Layer("stem", 7, 3, 64, 800, 1216, 2)]
    for stage, (height, width) in enumerate([(200, 304), (100, 152), (50, 76), (25, 38)], 2):
        name, inner, outer = f"res{stage}", 64 << (stage - 2), 256 << (stage - 2)
        below = 64 if stage == 2 else outer // 2
        stride = 1 if stage == 2 else 2
        before = (height * stride, width * stride)
        layers += [
            Layer(f"{name} 1 x 1, first", 1, below, inner, *before, stride),
            Layer(f"{name} shortcut", 1, below, outer, *before, stride),
            Layer(f"{name} 1 x 1, reduce", 1, outer, inner, height, width),
            Layer(f"{name} 3 x 3", 3, inner, inner, height, width),
            Layer(f"{name} 1 x 1, expand", 1, inner, outer, height, width),
        ]
        if stage > 2:
            layers.append(Layer(f"{name} 3 x 3, stride 2", 3, inner, inner, *before, 2))
            layers.append(
                Layer(f"{name} of X101, stride 2", 3, 4 * inner, 4 * inner, *before, 2, groups=32)
            )
        layers.append(Layer(f"{name} of X101", 3, 4 * inner, 4 * inner, height, width, groups=32))
        layers.append(
            Layer(f"{name} of X101 64 x 4", 3, 4 * inner, 4 * inner, height, width, groups=64)
        )
        layers.append(Layer(f"FPN lateral of {name}", 1, outer, 256, height, width))
        layers.append(Layer(f"FPN output, RPN of {name}", 3, 256, 256, height, width))
    layers.append(Layer("mask head", 3, 256, 256, 14, 14, images=100))
    layers.append(Layer("mask predictor", 1, 256, 80, 28, 28, images=100))
    layers.append(Layer("keypoint head", 3, 512, 512, 14, 14, images=32))
    layers.append(Layer("res5 of C4, reduce", 1, 2048, 512, 7, 7, images=300))
    layers.append(Layer("res5 of C4", 3, 512, 512, 7, 7, images=300))
    layers.append(Layer("res5 of C4, expand", 1, 512, 2048, 7, 7, images=300))
    return layers


def _map(layer: Layer, size: float) -> tuple[int, int, int]:
    """Images, height and width of what it reads."""
    height, width = layer.height, layer.width
    if layer.images == 1:
        height, width = (max(round(side * size), 1) for side in (height, width))
    return max(round(layer.images * size * size), 1), height, width


def _products(layer: Layer, size: float) -> int:
    images, height, width = _map(layer, size)
    outputs = images * -(-height // layer.stride) * -(-width // layer.stride) * layer.outputs
    return outputs * layer.kernel_size**2 * layer.inputs // layer.groups


def _sides(layer: Layer, size: float, int8: bool) -> dict[str, Callable[[], object]]:
    import tensorflow as tf

    from tfdetect.ops.packed_conv import can_use_winograd, pack_weight, packed_conv, winograd_conv
    from tfdetect.ops.quantized_conv import quantized_conv

    shape = [layer.kernel_size] * 2 + [layer.inputs // layer.groups, layer.outputs]
    padding = layer.kernel_size // 2
    x = tf.random.stateless_normal([*_map(layer, size), layer.inputs], (1, 2))
    weight = tf.random.stateless_normal(shape, (3, 4))
    bias = tf.random.stateless_normal([layer.outputs], (5, 6))
    fits_winograd = can_use_winograd(weight.shape, layer.stride, padding, layer.groups)
    pads = [[0, 0], [padding, padding], [padding, padding], [0, 0]]

    def theirs(x: tf.Tensor) -> tf.Tensor:
        y = tf.nn.conv2d(x, constants[1], layer.stride, pads)
        if (
            layer.groups > 1
        ):  # as folded norms of these are: TensorFlow's fused kernel has no groups
            return tf.nn.relu(y - constants[2])
        return tf.nn.relu(tf.nn.bias_add(y, constants[2]))

    def ours(x: tf.Tensor, winograd: bool) -> tf.Tensor:
        if winograd:
            return winograd_conv(x, constants[3], constants[2], relu=True)
        options = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": padding}
        return packed_conv(x, constants[4], constants[2], **options, relu=True)

    bytes_of_weight = tf.cast(tf.clip_by_value(tf.round(weight * 40), -127, 127), tf.int8)
    multiplier = tf.fill([layer.outputs], 1e-3)

    def quantized(x: tf.Tensor) -> tf.Tensor:
        return quantized_conv(
            x,
            constants[5],
            multiplier,
            constants[2],
            zero_point=0,
            kernel_size=layer.kernel_size,
            stride=layer.stride,
            padding=padding,
            groups=layer.groups,
            relu=True,
            output_scale=0.05,
        )

    constants = [x, weight, bias, None, pack_weight(weight, groups=layer.groups)]
    constants.append(bytes_of_weight)
    functions = {"ours": functools.partial(ours, winograd=fits_winograd)}
    functions |= {"int8": quantized} if int8 else {"TensorFlow": theirs}
    if fits_winograd:
        constants[3] = pack_weight(weight, winograd=True)
    sides = {}
    for name, function in functions.items():
        given = tf.cast(tf.clip_by_value(x * 60, 0, 255), tf.uint8) if name == "int8" else x
        signature = tf.TensorSpec([None, None, None, layer.inputs], given.dtype)
        concrete = tf.function(function, autograph=False).get_concrete_function(signature)
        sides[name] = functools.partial(concrete, given)
    return sides


def _measure(
    sides: dict[str, Callable[[], object]], runs: int, base: str
) -> dict[str, tuple[float, float]]:
    """The least processor time of each side, and the median of its ratio to the base's."""
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(runs + 1):
        for name in list(sides)[:: -1 if index % 2 else 1]:
            before = time.process_time()
            sides[name]()
            if index:
                samples[name].append(time.process_time() - before)
    return {
        name: (
            min(taken),
            statistics.median(a / b for a, b in zip(taken, samples[base], strict=True)),
        )
        for name, taken in samples.items()
    }


def main() -> None:
    """Print a row per layer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--size", type=float, default=1.0, help="of the maps (1: 800 x 1216)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--int8", action="store_true", help="quantized, not TensorFlow's")
    parser.add_argument("--match", default="", help="only layers whose name contains this")
    args = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import tensorflow as tf

    from tfdetect.ops import kernels

    kernels.require()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    print(processor(), kernels.instruction_sets().used, tf.__version__, flush=True)
    for layer in _layers():
        if args.match not in layer.name:
            continue
        base = "ours" if args.int8 else "TensorFlow"
        found = _measure(_sides(layer, args.size, args.int8), args.runs, base)
        least = found[base][0]
        rate = _products(layer, args.size) / 1e9
        text = "  ".join(
            f"{name} {1e3 * taken:.2f} ms {taken / least:.2f} ({median:.2f})"
            + (f" {rate / taken:.1f} G/s" if args.int8 else "")
            for name, (taken, median) in found.items()
        )
        shape = f"{layer.kernel_size}/{layer.stride} {layer.inputs}-{layer.outputs} g{layer.groups}"
        print(f"{layer.name:28} {shape:20} {text}", flush=True)


if __name__ == "__main__":
    main()
