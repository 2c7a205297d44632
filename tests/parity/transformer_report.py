"""The part of docs/parity.md on ViT, Swin and MViT."""

from __future__ import annotations

import json
import sys
import time

from benchmarks.seeded_weights import seeded_model
from tests.support.transformer_records import (
    DETECTORS,
    FULL,
    HEADS,
    Result,
    compare_model,
    narrow_config,
    read_record,
)
from tfdetect.config import load_config

TEXT = """
{narrow} narrow detectors and {full} published models with seeded weights, on one photograph.
"Stages" is the largest difference of any patch embedding, block, pyramid level or output of the
RPN, "heads" that of the heads on given boxes, both in standard deviations of the tensor. Proposals
(every eighth) and detections match if IoU > 0.9 and scores are within 2e-4; "mask" is the number of
pixels in which two masks (every twentieth) differ at most. Narrow models that do not pad to squares
are compared in a batch of two as well, padded as in Detectron2, and with both implementations of
the operators.

When its weights move by a relative 1e-6, Detectron2 differs from itself by up to
{weights};
in float64 (narrow models) by
{float64}.

| model | stages | detections | extra | score | box (pixels) | mask | heads | proposals | with |
|---|---|---|---|---|---|---|---|---|---|
{rows}
"""


def transformers() -> str:
    rows = []
    for kind, names in (("narrow", DETECTORS), ("full", FULL)):
        for name in names:
            recorded = read_record(kind, name)
            cfg = narrow_config(recorded) if kind == "narrow" else load_config(name)
            # Valid sizes, too, are computed where images are not padded to squares.
            free = kind == "narrow" and not cfg.MODEL.BACKBONE.SQUARE_PAD
            for ops in ("native", "portable") if free else ("native",):
                start = time.perf_counter()
                result = compare_model(cfg, seeded_model(cfg), ops, recorded)
                rows.append(_row(name, ops, result))
                seconds = time.perf_counter() - start
                print(f"{seconds:.0f} s {rows[-1]}", file=sys.stderr, flush=True)
    return TEXT.format(
        narrow=len(DETECTORS),
        full=len(FULL),
        weights=_noise("weights_times_1e_6"),
        float64=_noise("float64"),
        rows="\n".join(rows),
    )


def _row(name: str, ops: str, result: Result) -> str:
    heads = max(value for stage, value in result.stages.items() if stage.startswith(HEADS))
    stages = {key: value for key, value in result.stages.items() if not key.startswith(HEADS)}
    stage, difference = max(stages.items(), key=lambda item: item[1])
    found = [result.detections, *result.batch]
    columns = [
        f"{difference:.1e} ({stage})",
        f"{sum(of.matched for of in found)} of {sum(of.expected for of in found)}",
        str(sum(of.extra for of in found)),
        f"{max(of.score for of in found):.1e}",
        f"{max(of.box for of in found):.1e}",
        str(result.detections.mask_pixels),
        f"{heads:.1e}",
        f"{result.proposals.matched} of {result.proposals.expected}",
        ops,
    ]
    return f"| {name} | {' | '.join(columns)} |"


def _noise(run: str) -> str:
    """How far Detectron2 is from itself in this run of all records that have it."""
    stages, heads, box, score, mask = [], [], [], [], []
    for kind, names in (("narrow", DETECTORS), ("full", FULL)):
        for name in names:
            noise = json.loads(str(read_record(kind, name)["noise"])).get(run)
            if noise is None:
                continue
            detections = noise.pop("detections")
            box.append(detections["box"])
            score.append(detections["score"])
            mask.append(detections["mask_pixels_of"][0])
            for stage, difference in noise.items():
                (heads if stage.startswith(HEADS) else stages).append(difference)
    return (
        f"{max(stages):.1e} (stages) and {max(heads):.1e} (heads) standard deviations, "
        f"{max(score):.1e} of scores, {max(box):.1e} pixels of boxes and {max(mask)} of masks"
    )
