"""Measure the differences to Detectron2 and write docs/parity.md: `make parity`."""

from __future__ import annotations

import datetime
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import convert_d2.command
import tfdetect.cli.predict
from tests.support.comparison import Differences, compare
from tests.support.full_size import FULL_SIZE_CONFIGS, run_full_size
from tests.support.native import using_ops
from tests.support.paths import DATA, DEMO
from tfdetect.files import write_text_atomically

HEADER = """# Differences to Detectron2, measured

Written by `make parity` on {date} ({machine}, TensorFlow {tensorflow}); do not edit.

Detectron2's side was recorded from its main branch (commit 02b5c4e2) with PyTorch 2.4.1 on a CPU in
float32. How its definitions and TensorFlow's differ, and what is done about each, is in the
docstrings of `tfdetect/ops`.

"Matched" are the detections of Detectron2 that have a partner of the same class; the columns to its
right are the largest differences within a pair. Keypoints are compared by distance, masks by IoU.
"""

PURPOSE = """
## Different on purpose

Here Detectron2, on the same input, gives another number or stops:

- **Annotation ids.** pycocotools stores the id of the annotation that a detection matches and takes
  0 for no match, so that in a file that counts from 0 one object of each task is always missed
  (61.0 AP becomes 55.3 on 15 objects). Annotations are numbered from 1 for measuring, whatever
  their ids; one whose id comes twice (COCO's 2014 minival) is an object of its own.
- **Classes.** Detectron2 matches a model's classes with the annotations' by position. Here they are
  matched by name where both sides have names, in evaluation and when training goes on from a model
  directory, and a line says what was matched. Upper and lower case, spaces, hyphens and underscores
  do not tell names apart unless the exact text does. Annotations of a class that the model does not
  have are an error; detections of a class that the annotations do not have are left out.
- **Whole-number coordinates.** Where all four numbers of a box, or all of a polygon, are integers
  in the JSON file, Detectron2's `transform_instance_annotations` makes an integer array of them,
  and `ResizeTransform.apply_coords` assigns the resized coordinates into that array, which cuts
  off what is behind the point: corners in training are up to a pixel too far to the top or the
  left. (Keypoints are float64 there; fvcore's `apply_box` asks for floating point.) Here
  coordinates are float64 from the file on, so that 12 and 12.0 mean the same. To have Detectron2
  train on the same numbers, write the coordinates as floats.
- **Images that cannot be used in evaluation** (missing, damaged, of another size than the
  annotations say): Detectron2 stops. predict.py, and train.py with DATALOADER.ON_ERROR skip,
  measure on the others and say how many were skipped, beside the metrics and in `metrics.json`.
- **Tasks without ground truth.** A model with masks or keypoints is measured on what the
  annotations have; the tasks that no annotation has a field for are left out, with a line.
"""

TINY = """
## A trained model, from JPEG files through `convert_d2.py` and `predict.py`

A quarter-width R50-FPN with box, mask and keypoint heads, trained with Detectron2, on {images}
images. Pairs need IoU > 0.999 and scores within 1e-4; detections above 0.051.

| operators | matched | extra | score | box (pixels) | mask IoU, mean | keypoints (pixels) |
|---|---|---|---|---|---|---|
{rows}

COCO average precision, native operators:

| task | metric | Detectron2 | tfdetect | difference |
|---|---|---|---|---|
{metrics}

In batches of eight images of different sizes, against Detectron2 on each image alone:
{alone}

In batches of four, padded as Detectron2 pads them (`--padding detectron2`), against its batches:
{batch}

### bfloat16

With `--dtype bfloat16`, against Detectron2 in float32; pairs need IoU > {iou} and scores within
{score}: {half}

AP on these images: {half_metrics}. (On 1000 images, where chance is less: docs/profiling.md.)
"""

# What a pair of detections is, of which one is computed in bfloat16.
HALF = {"iou": 0.9, "score": 0.1}

FULL = """
## The zoo's models at full size, with seeded weights

One photograph, 400 x 600, resized to 800 x 1200. "Stages" is the largest difference of any feature
map, RPN output, pooled region or head output, as a share of that tensor's largest value. Pairs need
IoU > 0.99 and scores within 2e-3. "Keypoints" is the share within 0.02 pixels, "pixels" the share
of equal ones in the semantic and panoptic maps.

RetinaNet: with these weights 789 scores of the first level are exactly 1 in float32, all 98
recorded ones among them, and which survive NMS depends on the order in which PyTorch's partial sort
leaves equal scores. That order is no property of the scores of 1 alone: a heap of a thousand passes
over 9.3 million scores, and every comparison of the others moves the equal ones in it. Emulated
with libstdc++'s `partial_sort` (index for index what `torch.topk` gives for the same scores) it
turns our logits, which are within 2e-6 of Detectron2's, into 16 of the recorded 98; ranked by logit
it is 20. PyTorch's own sort, on our logits and on the same with the last bit of two thirds of them
changed, agrees with itself in 20 to 55 of 100 detections. Only bit-identical convolutions could
match directly, so the detections are compared with equal scores put in the recorded order
(tests/support/saturated_scores.py).

| configuration | stages | matched | extra | score | box (pixels) | mask IoU | keypoints | pixels |
|---|---|---|---|---|---|---|---|---|
{rows}
"""


def main() -> None:
    import tensorflow as tf

    output = Path(sys.argv[1])
    text = HEADER.format(
        date=datetime.date.today(), machine=platform.machine(), tensorflow=tf.__version__
    )
    text += PURPOSE + _tiny()
    rows = []
    for config in FULL_SIZE_CONFIGS:
        start = time.perf_counter()
        result = run_full_size(config)
        stage, difference = max(result.stages.items(), key=lambda item: item[1])
        distances = np.array(result.detections.keypoints)
        keypoints = f"{np.mean(distances <= 0.02):.2%}" if len(distances) else "-"
        cells, _ = _columns(result.detections)
        pixels = f"{min(result.pixels.values()):.2%}" if result.pixels else "-"
        rows.append(f"| {config} | {difference:.1e} ({stage}) | {cells} | {keypoints} | {pixels} |")
        print(f"{config}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    write_text_atomically(output, text + FULL.format(rows="\n".join(rows)))


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


if __name__ == "__main__":
    main()
