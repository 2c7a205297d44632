"""RoIAlign and its gradient on a GPU, compared with torchvision's CUDA kernels.

The regions of roi_align.py. The kernels are compiled with nvcc as tests/ops/kernels/cuda does, and
run without TensorFlow; times are the GPU's own. Prints what share of the memory's bandwidth they
reach, if features and results are counted once.

    python benchmarks/roi_align_cuda.py [ROW ...] [--runs N] [--reference PYTHON]
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import operator_inputs as inputs
from harness import ROOT, Row, Side, Skip, main

CUDA = ROOT / "tests" / "ops" / "kernels" / "cuda"
TIMES = 20  # launches of a run
OUTPUT = (inputs.REGIONS, inputs.BINS, inputs.BINS, inputs.FEATURES[3])


def _library() -> ctypes.CDLL:
    """The kernels and timed_roi_align.cu, compiled."""
    if shutil.which("nvidia-smi") is None:
        raise Skip("no GPU")
    if shutil.which("nvcc") is None:
        raise Skip("no nvcc")
    sys.path.insert(0, str(CUDA))
    from run_on_gpu import KERNELS, compile_objects

    with tempfile.TemporaryDirectory() as name:
        sources = [KERNELS / "roi_align.cu", CUDA / "timed_roi_align.cu"]
        objects = compile_objects(sources, Path(name), "native")
        path = Path(name) / "timed.so"
        subprocess.run(["nvcc", "-shared", *objects, "-o", str(path)], check=True)
        library = ctypes.CDLL(str(path))
    for function in ("roi_align_milliseconds", "gpu_bandwidth"):
        getattr(library, f"tfdetect_{function}").restype = ctypes.c_double
    library.tfdetect_gpu.restype = ctypes.c_bool
    return library


def _ours(dtype: str) -> Side:
    library = _library()
    gpu = ctypes.create_string_buffer(256)
    if not library.tfdetect_gpu(gpu, ctypes.c_int64(len(gpu))):
        raise Skip("no GPU")
    features = inputs.normal(*inputs.FEATURES).astype(dtype)
    grad = inputs.normal(*OUTPUT).astype(dtype)
    library.tfdetect_set_regions(
        (ctypes.c_int64 * 6)(*features.shape, inputs.BINS, inputs.BINS),
        ctypes.c_float(inputs.SCALE),
        ["float32", "float16"].index(dtype),
        features.ctypes.data_as(ctypes.c_void_p),
        grad.ctypes.data_as(ctypes.c_void_p),
        inputs.regions().ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(inputs.REGIONS),
    )
    best = library.tfdetect_gpu_bandwidth()
    moved = 2 * (features.nbytes + grad.nbytes)  # forward and back

    def limit(seconds: float) -> str:
        return (
            f"it moves at least {moved / 1e6:.0f} MB, {moved / seconds * 1e-9 / best:.0%} of the "
            f"{best:.0f} GB/s of a copy there"
        )

    def run() -> dict[str, float]:
        return {"seconds": library.tfdetect_roi_align_milliseconds() * 1e-3}

    run()
    print(f"RoIAlign in {dtype}: {limit(run()['seconds'])}")
    return Side({"tfdetect": version("tfdetect"), "GPU": gpu.value.decode()}, run, limit)


def _torchvision(dtype: str) -> Side:
    import torch
    import torchvision

    if not torch.cuda.is_available():
        raise Skip("PyTorch has no GPU")
    features = torch.from_numpy(inputs.normal(*inputs.FEATURES).astype(dtype)).cuda()
    features = features.permute(0, 3, 1, 2).contiguous().requires_grad_()
    boxes = [torch.from_numpy(inputs.regions().astype(dtype)).cuda()]
    upstream = torch.from_numpy(inputs.normal(*OUTPUT).astype(dtype)).cuda()
    upstream = upstream.permute(0, 3, 1, 2).contiguous()

    def run() -> dict[str, float]:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(TIMES):
            pooled = torchvision.ops.roi_align(
                features, boxes, inputs.BINS, inputs.SCALE, sampling_ratio=0, aligned=True
            )
            torch.autograd.grad(pooled, features, upstream)
        stop.record()
        torch.cuda.synchronize()
        return {"seconds": start.elapsed_time(stop) / TIMES * 1e-3}

    versions = {"torchvision": torchvision.__version__, "PyTorch": torch.__version__}
    return Side(versions | {"CUDA": str(torch.version.cuda)}, run)


ROWS = [
    Row(
        f"roi_align_cuda_{dtype}",
        f"RoIAlign and its gradient on a GPU, {dtype}",
        0.4,
        functools.partial(_ours, dtype),
        "torchvision",
        functools.partial(_torchvision, dtype),
        needs=("torch", "torchvision"),
    )
    for dtype in ("float32", "float16")
]

if __name__ == "__main__":
    main(ROWS)
