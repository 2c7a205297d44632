"""Compare and time CUDA kernels with torchvision's, on a machine with a GPU and PyTorch.

ROIAlign and deformable convolution with their gradients, and NMS. Needs nvcc, torch and
torchvision and nothing of TensorFlow. From the repository's root:
`python tests/ops/kernels/cuda/compare_with_torchvision.py`; run_on_gpu.py calls it too.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torchvision
from run_on_gpu import HERE, compile_objects, kernel_sources

TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


def build(folder: str) -> ctypes.CDLL:
    library = Path(folder) / "kernels.so"
    sources = [*kernel_sources(), HERE / "torchvision_library.cu"]
    objects = compile_objects(sources, Path(folder), "native")
    subprocess.run(["nvcc", "-shared", *objects, "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    for name in ("roi_align", "nms", "deform_conv", "deform_conv_gradient"):
        getattr(loaded, f"tfdetect_{name}").restype = ctypes.c_char_p
    for name in ("nms", "deform_conv"):
        getattr(loaded, f"tfdetect_{name}_workspace").restype = ctypes.c_int64
    return loaded


def launch(function, *arguments) -> None:
    """Call a launcher with the current stream as its last argument; tensors as pointers."""
    pointers = [
        ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else a for a in arguments
    ]
    error = function(*pointers, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
    if error:
        raise RuntimeError(error.decode())


def roi_align(library, is_gradient, source, boxes, indices, shape, bins, scale, ratio, aligned):
    """`source` is NHWC features or the gradient of the output; `shape` is that of the features."""
    size = shape if is_gradient else (len(boxes), bins, bins, shape[3])
    result = torch.empty(size, dtype=source.dtype, device="cuda")
    launch(
        library.tfdetect_roi_align,
        (ctypes.c_int64 * 6)(*shape, bins, bins),
        ctypes.c_float(scale),
        ratio,
        int(aligned),
        TYPES[source.dtype],
        int(is_gradient),
        source,
        boxes,
        indices,
        ctypes.c_int64(len(boxes)),
        result,
    )
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


def compare_roi_align(library) -> bool:
    passed = True
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
            roi_align(library, False, features, *arguments), pooled.permute(0, 2, 3, 1)
        )
        backward = relative(
            roi_align(library, True, grad, *arguments), expected.permute(0, 2, 3, 1)
        )
        passed &= forward < 1e-5 and backward < 1e-4
        print(f"boxes to {longest} px, ratio {ratio}, aligned {aligned}")
        print(f"  difference: forward {forward:.1e}, gradient {backward:.1e}")
        theirs = milliseconds(reference)
        theirs_back = milliseconds(
            lambda p=pooled, n=nchw, g=nchw_grad: torch.autograd.grad(p, n, g, retain_graph=True)
        )
        print(f"  torchvision float32: forward {theirs:.3f} ms, gradient {theirs_back:.3f} ms")
        for dtype in TYPES:
            inputs = (features.to(dtype), grad.to(dtype))
            ours, ours_back = (
                milliseconds(lambda i=i, x=x, a=arguments: roi_align(library, bool(i), x, *a))
                for i, x in enumerate(inputs)
            )
            print(f"  ours {dtype}: forward {ours:.3f} ms, gradient {ours_back:.3f} ms")
    return passed


def compare_nms(library) -> bool:
    passed = True
    for count, threshold in [(1000, 0.7), (5000, 0.5), (20000, 0.3)]:
        low = torch.rand(count, 2, device="cuda") * 1000
        boxes = torch.cat([low, low + 1 + torch.rand_like(low) * 300], 1)
        scores = torch.rand(count, device="cuda")
        groups = torch.zeros(count, dtype=torch.int32, device="cuda")
        workspace = torch.empty(
            library.tfdetect_nms_workspace(ctypes.c_int64(count)), dtype=torch.uint8, device="cuda"
        )
        keep = torch.empty(count, dtype=torch.bool, device="cuda")
        arguments = (boxes, scores, groups, ctypes.c_int64(count), ctypes.c_double(threshold))

        def ours(arguments=arguments, workspace=workspace, keep=keep):
            launch(library.tfdetect_nms, *arguments, workspace, keep)

        def theirs(boxes=boxes, scores=scores, threshold=threshold):
            return torchvision.ops.nms(boxes, scores, threshold)

        ours()
        # Their CPU's result, which is the definition.
        expected = torchvision.ops.nms(boxes.cpu(), scores.cpu(), threshold)
        same = torch.equal(keep.cpu().nonzero()[:, 0], expected.sort().values)
        passed &= same
        print(f"nms of {count} boxes at {threshold}: {'the same' if same else 'DIFFERS'}")
        print(f"  torchvision {milliseconds(theirs):.3f} ms, ours {milliseconds(ours):.3f} ms")
    return passed


def compare_deform_conv(library) -> bool:
    # B, H, W, Cin, h, w, Cout, kh, kw, stride, padding, dilation, groups, deformable groups
    sizes = [2, 50, 76, 256, 50, 76, 256, 3, 3, 1, 1, 1, 1, 1]
    images, height, width, channels, _, _, outputs, *_ = sizes
    shape = (ctypes.c_int64 * len(sizes))(*sizes)

    def random(*size):
        return torch.randn(size, device="cuda").requires_grad_()

    x, offset = random(images, channels, height, width), random(images, 18, height, width)
    mask, weight = random(images, 9, height, width), random(outputs, channels, 3, 3)
    dy = torch.randn(images, outputs, height, width, device="cuda")

    def theirs():
        return torchvision.ops.deform_conv2d(x, offset, weight, padding=1, mask=mask)

    def last(tensor):
        return tensor.detach().permute(0, 2, 3, 1).contiguous()

    y = theirs()
    gradients = torch.autograd.grad(y, [x, offset, mask, weight], dy, retain_graph=True)
    inputs = [last(x), last(offset), last(mask), weight.detach().permute(2, 3, 1, 0).contiguous()]
    dy_last, y_last = last(dy), torch.empty_like(last(y))
    results = [torch.empty_like(tensor) for tensor in inputs]
    workspace = torch.empty(
        library.tfdetect_deform_conv_workspace(shape), dtype=torch.uint8, device="cuda"
    )

    def ours():
        launch(library.tfdetect_deform_conv, shape, *inputs, workspace, y_last)

    def ours_back():
        launch(library.tfdetect_deform_conv_gradient, shape, *inputs, dy_last, workspace, *results)

    ours()
    ours_back()
    forward = relative(y_last, last(y))
    expected = [*map(last, gradients[:3]), gradients[3].permute(2, 3, 1, 0)]
    backward = max(relative(a, e) for a, e in zip(results, expected, strict=True))
    print(f"deform_conv v2 of {images} x {height} x {width} x {channels}")
    print(f"  difference: forward {forward:.1e}, gradients {backward:.1e}")

    def theirs_back():
        torch.autograd.grad(y, [x, offset, mask, weight], dy, retain_graph=True)

    for name, function, function_back in [
        ("torchvision", theirs, theirs_back),
        ("ours", ours, ours_back),
    ]:
        times = f"forward {milliseconds(function):.3f} ms, gradients"
        print(f"  {name}: {times} {milliseconds(function_back):.3f} ms")
    return forward < 1e-5 and backward < 1e-4


def main() -> int:
    torch.manual_seed(0)
    # Else both sides of the comparison are rounded to 11 bits.
    torch.backends.cuda.matmul.allow_tf32 = False
    with tempfile.TemporaryDirectory() as folder:
        library = build(folder)
        passed = compare_roi_align(library)
        passed &= compare_nms(library)
        passed &= compare_deform_conv(library)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
