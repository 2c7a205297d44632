"""torchvision's Mask R-CNN R50-FPN in PyTorch, ONNX Runtime and OpenVINO: sides of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torchvision_files
from harness import Side, Skip


def torchvision() -> Side:
    """The whole model in PyTorch, from an image to pasted masks."""
    import torch

    versions = torchvision_files.write_files()
    model = torchvision_files.build()
    x = torch.from_numpy(torchvision_files.image())

    def run() -> dict[str, float]:
        with torch.inference_mode():
            return {"detections": len(model([x])[0]["scores"])}

    return Side(versions, run)


def onnx_runtime() -> Side:
    """The whole model, as torchvision's own export writes it, in ONNX Runtime."""
    exported = torchvision_files.write_files()
    run, versions = onnx_session(torchvision_files.WHOLE, torchvision_files.image())
    return Side(exported | versions, lambda: {"detections": len(run()["scores"])})


def onnx_session(
    path: Path, pixels: np.ndarray
) -> tuple[Callable[[], dict[str, np.ndarray]], dict[str, str]]:
    """What runs an ONNX file of one input once, and ONNX Runtime's version.

    Raises:
        Skip: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise Skip(f"onnxruntime is not installed ({error})") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warning for each mask that is appended
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    (given,) = session.get_inputs()

    def run() -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {given.name: pixels}), strict=True))

    return run, {"ONNX Runtime": onnxruntime.__version__}


def openvino(precision: str) -> Side:
    """The file of `onnx_runtime` in OpenVINO, which computes in "f32" or "bf16"."""
    exported = torchvision_files.write_files()
    run, versions = _compiled(torchvision_files.WHOLE, torchvision_files.image(), precision)
    return Side(exported | versions, lambda: {"detections": len(run()["scores"])})


def openvino_heads(precision: str) -> Side:
    """Backbone, FPN and RPN head in OpenVINO; of "int8" as NNCF quantizes them by default."""
    exported = torchvision_files.write_files()
    x = torchvision_files.heads_input()
    quantize = _quantize if precision == "int8" else None
    run, versions = _compiled(torchvision_files.HEADS, x, precision, quantize)
    return Side(exported | versions, lambda: check(run().values()))


def _compiled(
    path: Path,
    x: np.ndarray,
    precision: str,
    change: Callable[[Any, np.ndarray, dict[str, str]], Any] | None = None,
) -> tuple[Callable[[], dict[str, np.ndarray]], dict[str, str]]:
    import openvino

    versions = {"OpenVINO": openvino.__version__.partition("-")[0]}
    core = openvino.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in able:
        raise Skip("this processor has no bfloat16 instructions, without which OpenVINO uses none")
    model = core.read_model(path)
    if change is not None:
        model = change(model, x, versions)
    # What is not int8 stays in float32 there.
    hints = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    compiled = core.compile_model(model, "CPU", hints | {"PERFORMANCE_HINT": "LATENCY"})

    def run() -> dict[str, np.ndarray]:
        return {output.any_name: value for output, value in compiled(x).items()}

    return run, versions


def _quantize(model: Any, x: np.ndarray, versions: dict[str, str]) -> Any:
    import nncf

    versions["NNCF"] = nncf.__version__
    # Calibrated on what it will see, and on that mirrored.
    return nncf.quantize(model, nncf.Dataset([x, x[..., ::-1].copy()]))


def check(outputs: Iterable[np.ndarray]) -> None:
    """Wait for arrays, and see that they are numbers, by their first ones.

    By few, for this is part of the time: NumPy takes longer for the maximum of the largest map in
    bfloat16 than the convolutions that made it.

    Raises:
        ValueError: one has a value that is not finite.
    """
    for output in outputs:
        if not np.isfinite(output.reshape(-1)[:1000].astype(np.float64)).all():
            raise ValueError("an output is not finite")
