"""Cityscapes' average precision of instances, by its own package cityscapesscripts."""

from __future__ import annotations

import importlib
import io
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_codec

from tfdetect.errors import InputError
from tfdetect.evaluation.table import format_metrics
from tfdetect.files import write_bytes_atomically, write_text_atomically

METRICS = ("AP", "AP50")
"""Over IoUs from 0.5 to 0.95, and at 0.5: the mean over the 8 classes."""

_TOOL = "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling"


def import_tool() -> ModuleType:
    """The package's evaluation of instances.

    Raises:
        InputError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(_TOOL)
    except Exception as error:  # such as a version of NumPy that it does not go with
        raise InputError(
            "Cityscapes' instances are measured by its own package, which cannot be imported"
            f" ({type(error).__name__}: {error}); run: pip install 'tfdetect[cityscapes]'"
        ) from error


def write_results(
    folder: Path, names: Sequence[str], results: Sequence[Mapping[str, Any]]
) -> list[Path]:
    """Write results as the tool reads them: NAME_pred.txt, and the PNG of each mask beside it.

    Args:
        folder: gets the files.
        names: of all images that were predicted, such as `aachen_000000_000019`.
        results: image_id (the name), category_id (Cityscapes' label id), score, segmentation (RLE).

    Returns:
        The file of each name.

    Raises:
        InputError: the folder cannot be written.
    """
    lines: dict[str, list[str]] = {name: [] for name in names}
    for result in results:
        name = result["image_id"]
        file = f"{name}_{len(lines[name])}_{result['category_id']}.png"
        _, png = cv2.imencode(".png", mask_codec.decode(result["segmentation"]) * np.uint8(255))
        write_bytes_atomically(folder / file, png.tobytes())
        lines[name].append(f"{file} {result['category_id']} {result['score']}\n")
    paths = []
    for name, of_image in lines.items():
        paths.append(folder / f"{name}_pred.txt")
        write_text_atomically(paths[-1], "".join(of_image))
    return paths


def evaluate(
    truth: Mapping[str, Path], results: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """The metrics of Detectron2's `CityscapesInstanceEvaluator`.

    Args:
        truth: `*_gtFine_instanceIds.png` of each image, by its name.
        results: see `write_results`.

    Returns:
        {"segm": `METRICS`, and `AP-CLASS` of each class}, in percent; NaN where there is nothing of
        a class.

    Raises:
        InputError: the tool is missing, or cannot use the files.
    """
    tool = import_tool()
    names = sorted(truth)
    if not names:
        return {"segm": dict.fromkeys(METRICS, math.nan)}
    with tempfile.TemporaryDirectory(prefix="tfdetect_cityscapes_") as name:
        folder = Path(name).resolve()
        predicted = write_results(folder, names, results)
        tool.args.predictionPath = str(folder)
        tool.args.predictionWalk = None
        tool.args.quiet = True
        tool.args.gtInstancesFile = str(folder / "gtInstances.json")
        said = io.StringIO()
        try:
            with _numpy_with_in1d(tool), redirect_stdout(said), redirect_stderr(said):
                averages = _averages(
                    tool,
                    [str(path) for path in predicted],
                    [os.path.abspath(truth[name]) for name in names],
                )
        except (Exception, SystemExit) as error:  # its way to report what it cannot use
            reason = " ".join(said.getvalue().split()[-20:]) or f"{type(error).__name__}: {error}"
            raise InputError(f"{truth[names[0]].parent}: cityscapesscripts: {reason}") from error
    metrics = {"AP": averages["allAp"], "AP50": averages["allAp50%"]}
    metrics |= {f"AP-{name}": values["ap"] for name, values in averages["classes"].items()}
    return {"segm": {name: 100 * float(value) for name, value in metrics.items()}}


def _averages(tool: ModuleType, predicted: list[str], truth: list[str]) -> dict[str, Any]:
    """What the tool's `evaluateImgLists` does, but for a file in the current folder."""
    args = tool.args
    tool.setInstanceLabels(args)
    matches = tool.matchGtWithPreds(predicted, truth, tool.getGtInstances(truth, args), args)
    return tool.computeAverages(tool.evaluateMatches(matches, args), args)


@contextmanager
def _numpy_with_in1d(tool: Any) -> Iterator[None]:
    """Give the tool `numpy.in1d`, which its release 2.3.0 calls and NumPy has no more since 2.4."""
    if hasattr(np, "in1d"):
        yield
        return
    tool.np = SimpleNamespace(**vars(np), in1d=lambda values, among: np.isin(values, among).ravel())
    try:
        yield
    finally:
        tool.np = np


def format_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """What `evaluate` returned, as two tables in plain text."""
    return format_metrics(metrics, METRICS, "AP")
