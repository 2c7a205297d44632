"""Thins Detectron2's complete records of transformer models, for tests/arrays/vitdet.

    python -m tests.recorders.transformer_models RECORDS tests/arrays/vitdet

RECORDS has folders narrow/ and full/ of what Detectron2 gave of each model in all its stages. Kept
are: of maps some channels, rows and columns, of vectors some columns; every eighth proposal; every
detection, but every twentieth mask (the others are null). `layout` has of each stage X what is in
RECORDS as X_step, X_shape and X_moments (mean, standard deviation, largest magnitude) of the whole;
the step of vectors is [that of the columns].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

STAGES = ("stage_", "feat_", "rpn_", "box_", "mask_logits", "batch_feat_")
KEPT = ("settings", "noise", "given_boxes", "short_edge", "longest_edge", "resized_crc32")
SIZES = ("resized_hw", "padded_hw", "batch_padded_hw")


def thinned(recorded):
    """The arrays that are kept of a complete record."""
    kept, layout = {}, {}
    for name, values in recorded.items():
        if name in (*KEPT, *SIZES):
            kept[name] = values
        elif name.startswith(STAGES) and not name.endswith(("_step", "_shape", "_moments")):
            kept[name], layout[name] = thinned_stage(recorded, name)
        elif name in ("proposals", "proposal_logits"):
            kept[name], layout[name] = values[::8], {"shape": list(values.shape)}
        elif name == "pred_masks_rle":
            counts = json.loads(str(values))
            counts = [None if index % 20 else text for index, text in enumerate(counts)]
            kept[name] = np.array(json.dumps(counts))
        elif name.startswith("pred_") and name != "pred_mask_area":
            kept[name] = values.astype(np.int16) if "classes" in name else values
    return kept | {"layout": np.array(json.dumps(layout))}


def thinned_stage(recorded, name):
    """What is kept of a stage, and its layout."""
    values = recorded[name]
    layout = {"shape": recorded.get(f"{name}_shape", np.array(values.shape)).tolist()}
    if f"{name}_moments" in recorded:
        layout["moments"] = recorded[f"{name}_moments"].tolist()
    else:
        whole = values.astype(np.float64)
        layout["moments"] = [whole.mean(), whole.std(ddof=1), np.abs(whole).max()]
    if values.ndim == 4:
        # Of many regions fewer values each.
        channels, side = (4, 6) if len(values) <= 2 else (2, 4)
        step = [-(-values.shape[1] // channels), -(-max(values.shape[2:]) // side)]
        values = values[:, :: step[0], :: step[1], :: step[1]]
        layout["step"] = (step * recorded.get(f"{name}_step", np.array([1, 1]))).tolist()
    else:
        # Odd, so that all four coordinates are among the deltas.
        layout["step"] = [-(-values.shape[1] // 16) | 1]
        values = values[:, :: layout["step"][0]]
    return values, layout


def main(source, target):
    for path in sorted(source.glob("*/*.npz")):
        if path.parent.name in ("narrow", "full"):
            with np.load(path) as arrays:
                kept = thinned(dict(arrays))
            folder = target / path.parent.name
            folder.mkdir(exist_ok=True)
            np.savez_compressed(folder / path.name, **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
