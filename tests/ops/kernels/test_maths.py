"""The TensorFlow-free C++ files, alone, under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tfdetect.ops.kernels import build

SANITIZERS = [
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=undefined,float-cast-overflow",
]


def test_ordinary_and_hostile_inputs(tmp_path):
    """maths_test.cc compares with definitions written out and touches every path."""
    toolchain = build.find_toolchain()
    if toolchain is None:
        pytest.skip("no C++ compiler")
    sources = [p for p in build.SOURCES.glob("*.cc") if not p.name.endswith("_op.cc")]
    sources.append(Path(__file__).parent / "maths_test.cc")
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-DTFDETECT_NO_CLONES", *SANITIZERS]

    def compile_one(source: Path) -> str:
        target = str(tmp_path / f"{source.name}.o")
        command = [*toolchain.compiler, *flags, "-I", str(build.SOURCES), "-c", str(source)]
        done = subprocess.run([*command, "-o", target], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
        return target

    with ThreadPoolExecutor(max_workers=2) as pool:
        objects = list(pool.map(compile_one, sources))
    program = tmp_path / "maths_test"
    subprocess.run([*toolchain.compiler, *SANITIZERS, *objects, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
