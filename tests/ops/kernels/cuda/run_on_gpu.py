"""Check and time the CUDA kernels on a machine with a GPU and nvcc, without TensorFlow.

From the repository's root: `python tests/ops/kernels/cuda/run_on_gpu.py`. It compiles the kernels
and two programs: gpu_test.cu compares every operator with the CPU's files on ordinary and hostile
inputs, gpu_times.cu at the sizes of a real model, with times. Where there is PyTorch with
torchvision, compare_with_torchvision.py follows. The exit status is 0 if all agree.

`--compile-only ARCHITECTURE` (sm_90, say) runs nothing, for a machine with nvcc but no GPU.
`--sanitize` runs gpu_test once more under compute-sanitizer (memcheck, racecheck, initcheck).
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parents[3] / "tfdetect" / "ops" / "kernels"
# As in tfdetect/ops/kernels/build.py: products and sums are rounded one by one.
FLAGS = ["-O3", "-std=c++17", "--fmad=false", "-Xcompiler", "-fPIC,-ffp-contract=off"]


def compile_objects(sources: list[Path], folder: Path, architecture: str) -> list[str]:
    """Compile each file on its own, several at once."""

    def compile_one(source: Path) -> str:
        target = str(folder / f"{source.name}.o")
        command = ["nvcc", *FLAGS, f"-arch={architecture}", "-I", str(KERNELS), "-I", str(HERE)]
        subprocess.run([*command, "-c", str(source), "-o", target], check=True)
        return target

    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(compile_one, sources))


def kernel_sources() -> list[Path]:
    """The CUDA kernels and the CPU's files that they are compared with."""
    maths = [path for path in KERNELS.glob("*.cc") if not path.name.endswith("_op.cc")]
    return sorted([*KERNELS.glob("*.cu"), *maths])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile-only", metavar="ARCHITECTURE", help="run nothing")
    parser.add_argument("--sanitize", action="store_true", help="also under compute-sanitizer")
    arguments = parser.parse_args()
    architecture = arguments.compile_only
    status = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects = compile_objects(kernel_sources(), folder, architecture or "native")
        for program in ("gpu_test", "gpu_times"):
            (main_object,) = compile_objects(
                [HERE / f"{program}.cu"], folder, architecture or "native"
            )
            executable = str(folder / program)
            subprocess.run(["nvcc", main_object, *objects, "-o", executable], check=True)
            if not architecture:
                print(f"{program}:", flush=True)
                status |= subprocess.run([executable]).returncode
        if arguments.sanitize and not architecture:
            for tool in ("memcheck", "racecheck", "initcheck"):
                print(f"compute-sanitizer, {tool}:", flush=True)
                command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "3"]
                status |= subprocess.run([*command, str(folder / "gpu_test")]).returncode
    if not architecture and importlib.util.find_spec("torchvision"):
        print("compare_with_torchvision:", flush=True)
        status |= subprocess.run(
            [sys.executable, str(HERE / "compare_with_torchvision.py")]
        ).returncode
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
