"""Measure the differences to Detectron2 and write docs/parity.md: `make parity`.

    python -m tests.parity.report docs/parity.md [SECTION ...]

With names of sections (the keys of SECTIONS) only these are measured, and replaced in the file.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import convert_d2.command
import tfdetect.cli.predict
from benchmarks.seeded_weights import seeded_model
from tests.parity.quantization_report import quantization
from tests.parity.rotated_report import rotated
from tests.parity.segmentation_report import segmentation
from tests.parity.tracker_report import trackers
from tests.parity.transformer_report import transformers
from tests.support import dense_records
from tests.support.comparison import Differences, compare
from tests.support.full_size import FULL_SIZE_CONFIGS, run_full_size
from tests.support.native import using_ops
from tests.support.paths import DATA, DEMO
from tests.support.recorded_steps import relative_differences
from tests.support.training_variants import arrays_of
from tests.support.tta import CLOSE, MODELS, RUNS, predicted, recorded, save_cascade
from tfdetect.files import write_text_atomically

HEADER = """# Measured differences from Detectron2

Written by `make parity` on {date} ({machine}, TensorFlow {tensorflow}); do not edit.

Detectron2's outputs were recorded from its main branch (commit 02b5c4e2) with PyTorch 2.4.1 on a
CPU in float32. The docstrings in `tfdetect/ops` say how its definitions differ from TensorFlow's,
and how each difference is handled.

"Matched" counts Detectron2's detections that have a counterpart of the same class. The columns to
its right are the largest differences within a matched pair. Keypoints are compared by distance,
masks by IoU.
"""

PURPOSE = """
In these cases Detectron2 returns a different number for the same input, or fails:

- **Annotation ids.** pycocotools stores the id of the annotation that a detection matches, with 0
  for no match. In a file with ids from 0, one object per task therefore always counts as missed
  (61.0 AP becomes 55.3 on 15 objects). Here annotations are numbered from 1 for evaluation,
  whatever their ids; annotations with the same id (COCO's 2014 minival) are separate objects.
- **Classes.** Detectron2 matches the model's classes to those of the annotations by position. Here
  they are matched by name if both have names, in evaluation and when training starts from a model
  directory, and a line says what was matched. Case, spaces, hyphens and underscores are ignored
  unless they are needed to tell two names apart. Annotations of a class that the model does not
  have are an error; detections of a class that the annotations do not have are ignored.
- **Whole-number coordinates.** If all numbers of a box or polygon are integers in the JSON file,
  Detectron2's `transform_instance_annotations` makes an integer array of them, and
  `ResizeTransform.apply_coords` assigns the resized coordinates into that array, which truncates
  them: corners in training are up to a pixel too far to the top or left. (Keypoints are float64
  there; fvcore's `apply_box` requires floating point.) Here coordinates are float64 throughout, so 12 and 12.0 mean the same. To make
  Detectron2 train on the same numbers, write the coordinates as floats.
- **Unusable images in evaluation** (missing, damaged, or not the size given in the annotations):
  Detectron2 fails. predict.py, and train.py with DATALOADER.ON_ERROR skip, evaluate on the others
  and report the number of skipped images with the metrics and in `metrics.json`.
- **PointRend.** Its semantic head chooses the points of an image from the image's own part of a
  batch; Detectron2 from the padded batch (`--padding detectron2` does too). It predicts with several
  features in MODEL.POINT_HEAD.IN_FEATURES, where Detectron2's fails, and enlarges logits that
  SUBDIVISION_STEPS leave coarser than the pixels. A step of implicit PointRend without a foreground
  region has a `loss_l2` of 0, not NaN.
- **Keypoints of lost instances.** Detectron2's BBoxIOUTracker makes the keypoints of an instance
  that it keeps whole numbers modulo 256, and its Hungarian trackers reject models with keypoints.
  Here they are kept as they were.
- **IoU of rotated boxes.** Detectron2 finds and sorts the corners of the intersection in float32, and
  rounding decides which there are: boxes that coincide to the last bits have an IoU of 1/3, 2/3 or
  2, slivers one of anything from -4e6 to infinity, which ends a training by an assertion. Here it is
  an integral in float64, always in [0, 1]. Where Detectron2's value does not jump when a coordinate
  moves by half an ulp, the two are within 1e-5, and NMS keeps the same boxes. Its NMS of rotated boxes
  drops a box at an IoU of the threshold on the CPU, and above it on a GPU: here, as on its CPU.
- **Boxes of a negative length** are an error for Detectron2's RoIAlign of rotated boxes; here they
  are pooled to zeros.
- **Tasks without ground truth.** A model with masks or keypoints is evaluated on the tasks that the
  annotations cover; tasks without any annotation are skipped, with a line that says so.
"""

TINY = """
A quarter-width R50-FPN with box, mask and keypoint heads, trained with Detectron2, on {images}
images. Detections (with scores above 0.051) match if IoU > 0.999 and their scores are within 1e-4.

| operators | matched | extra | score | box (pixels) | mask IoU, mean | keypoints (pixels) |
|---|---|---|---|---|---|---|
{rows}

COCO average precision, native operators:

| task | metric | Detectron2 | tfdetect | difference |
|---|---|---|---|---|
{metrics}

In batches of eight images of different sizes, against Detectron2 on each image alone:
{alone}

In batches of four, padded as in Detectron2 (`--padding detectron2`), against its batches:
{batch}

### bfloat16

With `--dtype bfloat16`, against Detectron2 in float32, where detections match if IoU > {iou} and
scores are within {score}: {half}

AP on these images: {half_metrics}. (For 1000 images, with less noise: docs/profiling.md.)
"""

# What a pair of detections is, of which one is computed in bfloat16.
HALF = {"iou": 0.9, "score": 0.1}

AUGMENTED = """
Detectron2's `GeneralizedRCNNWithTTA`, TEST.AUG.MIN_SIZES (160, 192, 224), MAX_SIZE 320, through
`predict.py`: the trained model with masks on four images, and a narrow cascade with seeded weights on
one. "Together" is how many augmented images go through the network at a time (1 by default, 3 as in
Detectron2 with `--padding detectron2`), "from" whether they are made from the image as it is or as
it is resized to INPUT.MIN_SIZE_TEST. Detections (with scores above 0.051) match if IoU > 0.99 and
their scores are within 1e-4; "mask" is the number of pixels in which two masks differ at most.

| model | FLIP | from | together | operators | matched | extra | score | box (pixels) | mask IoU, mean | mask |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}
"""

FULL = """
One photograph, 400 x 600, resized to 800 x 1200. "Intermediates" is the largest difference in any
feature map, RPN output, pooled feature or head output, relative to that tensor's largest value.
Detections match if IoU > 0.99 and scores are within 2e-3. "Keypoints" is the fraction within 0.02
pixels, "pixels" the fraction of equal pixels in the semantic and panoptic maps.

RetinaNet: with these weights, 789 scores of the first level are exactly 1 in float32, including all
98 recorded ones, and which of them survive NMS depends on how PyTorch's partial sort orders equal
scores. That order does not depend on those scores alone: 9.3 million scores pass through a heap of
a thousand, and every comparison with the others moves equal ones in it. Emulating it with
libstdc++'s `partial_sort` (which returns the same indices as `torch.topk` for the same scores) on
our logits, which are within 2e-6 of Detectron2's, yields 16 of the recorded 98; ranking by logit
yields 20. PyTorch's own sort, on our logits and on the same logits with the last bit of two thirds
of them changed, agrees with itself in 20 to 55 of 100 detections. Only bit-identical convolutions
could match directly, so the detections are compared with equal scores put in the recorded order
(tests/support/saturated_scores.py).

| configuration | intermediates | matched | extra | score | box (pixels) | mask IoU | keypoints | pixels |
|---|---|---|---|---|---|---|---|---|
{rows}
"""

DENSE = """
The same seeded weights, images and steps as in Detectron2. Losses, norms of the first gradients
and norms of the parameters in the end are the largest relative differences; in parentheses,
what Detectron2 with its weights disturbed by one part in a million differs from itself by.
Detections match if IoU > 0.9 and scores are within 1e-4.

| model | losses, first step | losses, twenty steps | gradients | parameters | matched | extra | score | box (pixels) |
|---|---|---|---|---|---|---|---|---|
{rows}
"""


class Section(NamedTuple):
    """A heading, and what measures the text below it."""

    title: str
    measure: Callable[[], str]


def main() -> None:
    output, names = Path(sys.argv[1]), sys.argv[2:]
    today = str(datetime.date.today())
    bodies, start = (
        {},
        HEADER.format(date=today, machine=platform.machine(), tensorflow=tf.__version__),
    )
    if names:
        # The file before: its beginning, then a title and a body of each section.
        start, *rest = re.split("^## (.+)$", output.read_text(), flags=re.MULTILINE)
        bodies = dict(zip(rest[::2], rest[1::2], strict=True))
    for name in names or SECTIONS:
        title, measure = SECTIONS[name]
        bodies[title] = f"Measured on {today}.\n\n{measure().strip()}" if names else measure()
    titles = [section.title for section in SECTIONS.values() if section.title in bodies]
    text = [start, *(f"## {title}\n\n{bodies[title].strip()}\n" for title in titles)]
    write_text_atomically(output, "\n".join(part.strip("\n") + "\n" for part in text))


def _full() -> str:
    rows = []
    for config in FULL_SIZE_CONFIGS:
        start = time.perf_counter()
        result = run_full_size(config)
        stage, difference = max(result.intermediates.items(), key=lambda item: item[1])
        distances = np.array(result.detections.keypoints)
        keypoints = f"{np.mean(distances <= 0.02):.2%}" if len(distances) else "-"
        cells, _ = _columns(result.detections)
        pixels = f"{min(result.pixels.values()):.2%}" if result.pixels else "-"
        rows.append(f"| {config} | {difference:.1e} ({stage}) | {cells} | {keypoints} | {pixels} |")
        print(f"{config}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return FULL.format(rows="\n".join(rows))


def _dense() -> str:
    rows = []
    for name in dense_records.OPTIONS:
        recorded, cfg = dense_records.read("steps", name), dense_records.configuration(name)
        steps, model, _ = dense_records.run_steps(name)
        pairs = zip(steps.losses, recorded["losses"], strict=True)
        losses = [max(relative_differences(*pair, 1e-3).values()) for pair in pairs]
        arrays = arrays_of(model)
        norms = (
            (
                {key: np.linalg.norm(g) for key, g in steps.first_gradients.items()},
                "first_gradient_norms",
                "first_gradients",
            ),
            (
                {key: np.linalg.norm(arrays[key]) for key in recorded["parameter_norms"]},
                "parameter_norms",
                "parameter_norms",
            ),
        )
        noise = recorded["noise"]
        cells = [f"{losses[0]:.1e} ({noise['losses_per_step'][0]:.1e})"]
        cells += [f"{max(losses):.1e} ({max(noise['losses_per_step']):.1e})"]
        for found, kind, key in norms:
            largest = max(relative_differences(found, recorded[key]).values())
            cells.append(f"{largest:.1e} ({noise[kind]:.1e})")
        found = dense_records.detect(dense_records.make_pipeline(cfg, seeded_model(cfg)))
        differences = dense_records.compare_detections(name, found)
        cells += [f"{differences.matched} of {differences.expected}", f"{differences.extra}"]
        cells += [f"{differences.score:.1e}", f"{differences.box:.1e}"]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return DENSE.format(rows="\n".join(rows))


def _columns(found: Differences) -> tuple[str, str]:
    """The cells up to the masks, and that of the keypoints."""
    masks = f"{np.mean(found.mask_ious):.6f}" if found.mask_ious else "-"
    keypoints = f"{max(found.keypoints):.1e}" if found.keypoints else "-"
    cells = [f"{found.matched} of {found.expected}", str(found.extra), f"{found.score:.1e}"]
    return " | ".join([*cells, f"{found.box:.1e}", masks]), keypoints


def _sentence(found: Differences) -> str:
    return (
        f"{found.matched} of {found.expected} matched, {found.extra} extra, scores within "
        f"{found.score:.1e}, boxes within {found.box:.1e} pixels."
    )


def _tiny() -> str:
    recorded = json.loads((DATA / "tiny" / "joint_rcnn.json").read_text())
    expected = json.loads((DATA / "tiny" / "detectron2_coco_ap.json").read_text())["joint_rcnn"]
    batch = json.loads((DATA / "tiny" / "batch_joint_rcnn.json").read_text())
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = str(folder / "model")
        command = ["--config-file", str(DEMO / "joint_rcnn" / "config.yaml"), "--output", model]
        weights = str(DEMO / "joint_rcnn" / "model_final.pkl")
        convert_d2.command.main([*command, "--weights", weights])
        for operators in ("portable", "native"):
            command = ["--model", model, "--evaluate", str(DEMO / "annotations.json")]
            command += ["--images", str(DEMO / "images"), "--output", str(folder)]
            with using_ops(operators):
                tfdetect.cli.predict.main([*command, "--json", str(folder / "found.json")])
            found = json.loads((folder / "found.json").read_text())
            cells = _columns(compare(found, recorded, iou=0.999, score=1e-4))
            rows.append(f"| {operators} | {' | '.join(cells)} |")
        metrics = json.loads((folder / "metrics.json").read_text())
        with using_ops("native"):
            command = [*command, "--dtype", "bfloat16", "--json", str(folder / "half.json")]
            tfdetect.cli.predict.main(command)
        half = json.loads((folder / "half.json").read_text())
        half_metrics = json.loads((folder / "metrics.json").read_text())
        summaries = []
        for padding, size, records in (("own", "8", recorded), ("detectron2", "4", batch)):
            command = ["--model", model, "--json", str(folder / "found.json")]
            command += ["--batch-size", size, "--padding", padding, "--input"]
            command += [str(DEMO / "images" / image["file_name"]) for image in records]
            tfdetect.cli.predict.main(command)
            found = json.loads((folder / "found.json").read_text())
            batched = compare(found, records, iou=0.999, score=1e-4)
            summaries.append(_sentence(batched))
    table = [
        f"| {task} | {metric} | {value:.3f} | {metrics[task][metric]:.3f} "
        f"| {metrics[task][metric] - value:+.4f} |"
        for task, values in expected.items()
        for metric, value in values.items()
        if not np.isnan(value)
    ]
    return TINY.format(
        images=len(recorded),
        rows="\n".join(rows),
        metrics="\n".join(table),
        iou=HALF["iou"],
        score=HALF["score"],
        half=_sentence(compare(half, recorded, **HALF)),
        half_metrics=", ".join(
            f"{task} {values['AP']:.2f} ({values['AP'] - metrics[task]['AP']:+.2f})"
            for task, values in half_metrics.items()
        ),
        alone=summaries[0],
        batch=summaries[1],
    )


def _tta() -> str:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dirs = {model: folder / model for model in MODELS}
        command = ["--config-file", str(DEMO / "joint_rcnn" / "config.yaml")]
        command += ["--weights", str(DEMO / "joint_rcnn" / "model_final.pkl")]
        convert_d2.command.main([*command, "--output", str(dirs["mask_rcnn"])])
        save_cascade(dirs["cascade_seeded"])
        for model in MODELS:
            for run in RUNS:
                flip, start, together = run.split("_")
                for operators in ("portable", "native") if run == RUNS[-2] else ("native",):
                    with using_ops(operators):
                        found = predicted(dirs[model], model, run, folder)
                    differences = compare(found, recorded(model, run), **CLOSE)
                    cells, _ = _columns(differences)
                    rows.append(
                        f"| {model} | {bool(int(flip[-1]))} | {start} | {together[-1]} "
                        f"| {operators} | {cells} | {differences.mask_pixels} |"
                    )
    return AUGMENTED.format(rows="\n".join(rows))


SECTIONS = {
    "differences": Section("Intentional differences", lambda: PURPOSE),
    "tiny": Section(
        "A trained model, from JPEG files through `convert_d2.py` and `predict.py`", _tiny
    ),
    "quantization": Section("int8", quantization),
    "rotated": Section("Rotated boxes", rotated),
    "trackers": Section("Trackers", trackers),
    "tta": Section("Test-time augmentation", _tta),
    "dense": Section(
        "RetinaNet and FCOS: twenty training steps and detections of narrow models", _dense
    ),
    "segmentation": Section(
        "SemanticSegmentor and PanopticFPN: twenty training steps by `train.py`, and maps",
        segmentation,
    ),
    "transformers": Section("ViT, Swin and MViT", transformers),
    "full": Section("The zoo's models at full size, with seeded weights", _full),
}


if __name__ == "__main__":
    main()
