"""The TensorFlow-free C++ and CUDA files, alone, under AddressSanitizer and UBSan.

maths_test.cc compares the CPU's files with definitions written out; cuda/gpu_test.cu compares the
CUDA kernels, run on the CPU by cuda/emulated_gpu.h, with the CPU's files. Both give boxes that are
empty, inverted, huge, infinite or NaN.
"""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tfdetect.ops.kernels import build

HERE = Path(__file__).resolve().parent
SANITIZERS = [
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=undefined,float-cast-overflow",
]
# Clobbered: the emulation's fibers look like longjmp to the compiler, but keep their own stacks.
# GCC 12 warns of the undefined registers in its own AVX-512 header (GCC's bug 105593).
QUIET = ["-Wno-clobbered", "-Wno-maybe-uninitialized"]
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", *QUIET, *SANITIZERS]
DEFINITIONS = ["-DTFDETECT_EMULATE_GPU"]
INCLUDES = ["-I", str(build.SOURCES), "-I", str(HERE / "cuda")]


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Every file compiled, by its name."""
    toolchain = build.find_toolchain()
    if toolchain is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("objects")
    sources = [p for p in build.SOURCES.glob("*.cc") if not p.name.endswith("_op.cc")]
    sources += [*build.SOURCES.glob("*.cu"), HERE / "maths_test.cc"]
    sources += [HERE / "cuda" / "gpu_test.cu"]

    def compile_one(source: Path) -> str:
        target = str(folder / f"{source.name}.o")
        command = [*toolchain.compiler, *FLAGS, *DEFINITIONS, *INCLUDES, "-x", "c++"]
        done = subprocess.run(
            [*command, "-c", str(source), "-o", target], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr, done.stderr
        return target

    with ThreadPoolExecutor(max_workers=2) as pool:
        compiled = list(pool.map(compile_one, sources))
    return toolchain, {source.name: path for source, path in zip(sources, compiled, strict=True)}


@pytest.mark.full
@pytest.mark.parametrize(
    ("program", "other", "instruction_set"),
    [
        ("maths_test.cc", "gpu_test.cu", "avx512"),  # or the largest of this processor
        ("maths_test.cc", "gpu_test.cu", "baseline"),
        ("gpu_test.cu", "maths_test.cc", "baseline"),
    ],
)
def test_program(objects, tmp_path, program, other, instruction_set):
    toolchain, compiled = objects
    linked = [path for name, path in compiled.items() if name != other]
    executable = str(tmp_path / "program")
    subprocess.run([*toolchain.compiler, *SANITIZERS, *linked, "-o", executable], check=True)
    env = {**os.environ, "TFDETECT_INSTRUCTION_SET": instruction_set}
    done = subprocess.run([executable], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "0 failures\n"
