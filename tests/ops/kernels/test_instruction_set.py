"""What the native library knows of its instruction set, and what follows for convolutions."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.support.native import require_native
from tfdetect.errors import InputError
from tfdetect.inference.optimization import optimize
from tfdetect.layers.conv import Conv2d
from tfdetect.ops import kernels
from tfdetect.ops.backend import Backend
from tfdetect.ops.kernels.instruction_set import InstructionSets

AVX2 = InstructionSets("avx512", "avx2", "avx2")
SLOW = {
    "no AVX2": InstructionSets("avx512", "baseline", "baseline"),
    "no vector instructions": InstructionSets("baseline", "baseline", "baseline"),
    "TFDETECT_INSTRUCTION_SET": InstructionSets("avx512", "avx512", "baseline"),
}


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    require_native()
    monkeypatch.setattr(kernels, "_announced_convolutions", False)


@pytest.mark.parametrize("reason", SLOW)
def test_slow_convolutions_are_tensorflows(monkeypatch, capsys, reason):
    """Packing does nothing and results are the same; one line says why, once."""
    layer = Conv2d(16, 32, 3, padding=1)
    rng = np.random.default_rng(0)
    for variable in layer.variables:
        variable.assign(rng.normal(size=variable.shape))
    x = rng.normal(size=(1, 9, 12, 16)).astype(np.float32)
    results = []
    for sets in (SLOW[reason], AVX2):
        monkeypatch.setattr(kernels, "_sets", sets)
        backend = Backend.for_device("cpu", ops="native")
        with backend.active():
            concrete = tf.function(layer, autograph=False).get_concrete_function(tf.constant(x))
        operations = {operation.type for operation in concrete.graph.get_operations()}
        assert ("Conv2D" in operations) == (sets is not AVX2)
        optimized = optimize(layer, backend)
        assert isinstance(optimized, Conv2d) == (sets is not AVX2)
        with backend.active():
            results.append(optimized(x).numpy())
    # Sums of 144 products in float32, by the definition and by Winograd.
    np.testing.assert_allclose(*results, rtol=0, atol=2e-6 * np.abs(results[0]).max())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfdetect: convolutions on the CPU are TensorFlow's: ")
    assert reason in line


CODE = """
import sys, numpy as np
from tfdetect.ops.backend import Backend
from tfdetect.ops import kernels
from tfdetect.ops.packed_conv import pack_weight, packed_conv, winograd_conv
from tfdetect.ops.quantized_conv import quantize, quantized_conv
backend = Backend.for_device("cpu", ops="native")
rng = np.random.default_rng(1)
x, weight = (rng.normal(size=s).astype(np.float32) for s in [(1, 13, 11, 24), (3, 3, 24, 48)])
bias = np.zeros(48, np.float32)
options = {"kernel_size": 3, "stride": 1, "padding": 1, "relu": False}
product = packed_conv(x, pack_weight(weight), bias, **options)
winograd = winograd_conv(x, pack_weight(weight, winograd=True), bias, relu=False)
np.save(sys.argv[1] + ".npy", [product, winograd])
steps = quantize(x, scale=0.02, zero_point=128)
quantized = {}
for size, inputs, padding in [(3, 16, 1), (3, 24, 1), (3, 24, 0), (1, 24, 0)]:
    weight = rng.integers(-127, 128, (size, size, inputs, 48), np.int8)
    residual = rng.normal(size=(1, 13 + 2 * padding - size + 1, 11 + 2 * padding - size + 1, 48))
    for scale in (None, 0.03):
        quantized[f"{size} {inputs} {padding} {scale}"] = quantized_conv(
            steps[..., :inputs],
            weight,
            rng.uniform(1e-4, 1e-3, 48).astype(np.float32),
            rng.normal(size=48).astype(np.float32),
            zero_point=128,
            kernel_size=size,
            padding=padding,
            relu=size == 3,
            residual=residual.astype(np.float32),
            output_scale=scale,
        )
np.savez(sys.argv[1] + ".npz", steps=steps, **quantized)
print(kernels.instruction_sets().used, backend.native_sums)
"""
NAMES = ["baseline", "avx2", "avx512"]


def test_every_set_gives_the_same(tmp_path):
    """AVX2 and AVX-512 to the bit; without them products are rounded before they are added.

    Quantized convolutions, whose sums are exact, to the bit in any case.
    """
    results, quantized = {}, {}
    processor = kernels.instruction_sets().processor
    for name in NAMES[: NAMES.index(processor) + 1]:
        path = str(tmp_path / name)
        env = {**os.environ, "TFDETECT_INSTRUCTION_SET": name, "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [sys.executable, "-c", CODE, path], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [name, str(name != "baseline")]
        results[name] = np.load(path + ".npy")
        quantized[name] = dict(np.load(path + ".npz"))
        for key, values in quantized[name].items():
            np.testing.assert_array_equal(values, quantized["baseline"][key], err_msg=key)
    product, winograd = results["baseline"]
    atol = 2e-6 * np.abs(product).max()
    np.testing.assert_allclose(winograd, product, rtol=0, atol=atol)
    np.testing.assert_allclose(results[processor], results["baseline"], rtol=0, atol=atol)
    if processor == "avx512":
        np.testing.assert_array_equal(results["avx512"], results["avx2"])


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("avx512", "is 'avx512', but this processor has AVX2: set it to baseline or avx2"),
        ("sse9", "is 'sse9': set it to baseline, avx2, avx512"),
    ],
)
def test_set_that_is_not_there_is_refused(monkeypatch, wanted, words):
    """And not replaced by the portable operators, as a library that does not load would be."""
    monkeypatch.setattr(kernels, "_tried", False)
    monkeypatch.setattr(kernels, "_load", lambda: kernels._module)
    monkeypatch.setattr(kernels, "_sets", AVX2)
    monkeypatch.setenv("TFDETECT_INSTRUCTION_SET", wanted)
    for _ in range(2):
        with pytest.raises(InputError, match=f"^TFDETECT_INSTRUCTION_SET {words}"):
            kernels.library()
    monkeypatch.setenv("TFDETECT_INSTRUCTION_SET", "avx2")
    assert kernels.library() is not None
