"""Compare and time the CUDA ROIAlign with torchvision's, on a machine with a GPU and PyTorch.

Needs nvcc, torch and torchvision and nothing of TensorFlow. From the repository's root:
`python tests/ops/kernels/cuda/compare_with_torchvision.py`.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torchvision

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parents[3] / "tfdetect" / "ops" / "kernels"
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


def build(folder: str) -> ctypes.CDLL:
    library = Path(folder) / "roi_align_harness.so"
    sources = [HERE / "roi_align_harness.cu"]
    sources += [KERNELS / name for name in ("roi_align.cu", "roi_align.cc", "roi_align_axis.cc")]
    flags = ["-O3", "-std=c++17", "--fmad=false", "-arch=native", "-shared", "-Xcompiler", "-fPIC"]
    subprocess.run(
        ["nvcc", *flags, "-I", str(KERNELS), *map(str, sources), "-o", str(library)], check=True
    )
    loaded = ctypes.CDLL(str(library))
    loaded.tfdetect_roi_align.restype = ctypes.c_char_p
    return loaded


def call(library, is_gradient, source, boxes, indices, shape, bins, scale, ratio, aligned):
    """`source` is NHWC features or the gradient of the output; `shape` is that of the features."""
    size = shape if is_gradient else (len(boxes), bins, bins, shape[3])
    result = torch.empty(size, dtype=source.dtype, device="cuda")
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (source, boxes, indices)]
    error = library.tfdetect_roi_align(
        (ctypes.c_int64 * 6)(*shape, bins, bins),
        ctypes.c_float(scale),
        ratio,
        int(aligned),
        TYPES[source.dtype],
        int(is_gradient),
        *pointers,
        ctypes.c_int64(len(boxes)),
        ctypes.c_void_p(result.data_ptr()),
        ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
    )
    if error:
        raise RuntimeError(error.decode())
    return result


def milliseconds(function, times: int = 20) -> float:
    function()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        function()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) / times


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def main() -> int:
    torch.manual_seed(0)
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        library = build(folder)
        for longest, ratio, aligned in [(112, 0, True), (448, 0, True), (448, 2, False)]:
            shape, bins, scale = (1, 200, 304, 256), 7, 0.25
            features = torch.randn(shape, device="cuda")
            low = torch.rand(1000, 2, device="cuda") * torch.tensor([1200.0, 784.0], device="cuda")
            boxes = torch.cat([low, low + 8 + torch.rand_like(low) * (longest - 8)], 1)
            indices = torch.zeros(1000, dtype=torch.int32, device="cuda")
            nchw = features.permute(0, 3, 1, 2).contiguous().requires_grad_()
            rois = torch.cat([indices[:, None].float(), boxes], 1)
            arguments = (boxes, indices, shape, bins, scale, ratio, aligned)

            def reference(nchw=nchw, rois=rois, scale=scale, ratio=ratio, aligned=aligned):
                return torchvision.ops.roi_align(nchw, rois, (7, 7), scale, ratio, aligned)

            pooled = reference()
            grad = torch.randn(1000, bins, bins, shape[3], device="cuda")
            nchw_grad = grad.permute(0, 3, 1, 2).contiguous()
            (expected,) = torch.autograd.grad(pooled, nchw, nchw_grad, retain_graph=True)
            forward = relative(
                call(library, False, features, *arguments), pooled.permute(0, 2, 3, 1)
            )
            backward = relative(call(library, True, grad, *arguments), expected.permute(0, 2, 3, 1))
            passed &= forward < 1e-5 and backward < 1e-4
            print(f"boxes to {longest} px, ratio {ratio}, aligned {aligned}")
            print(f"  difference: forward {forward:.1e}, gradient {backward:.1e}")
            theirs = milliseconds(reference)
            theirs_back = milliseconds(
                lambda p=pooled, n=nchw, g=nchw_grad: torch.autograd.grad(
                    p, n, g, retain_graph=True
                )
            )
            print(f"  torchvision float32: forward {theirs:.3f} ms, gradient {theirs_back:.3f} ms")
            for dtype in TYPES:
                inputs = (features.to(dtype), grad.to(dtype))
                ours, ours_back = (
                    milliseconds(lambda i=i, x=x, a=arguments: call(library, bool(i), x, *a))
                    for i, x in enumerate(inputs)
                )
                print(f"  ours {dtype}: forward {ours:.3f} ms, gradient {ours_back:.3f} ms")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
