"""The trackers' part of docs/parity.md."""

from __future__ import annotations

import numpy as np

from tests.support.recorded_tracks import CONFIGS, SEQUENCES, TRACKERS, replay

PAGE = """
Five sequences of detections in four configurations each: the frames, instances and costs that are
equal to Detectron2's in every number (ids, periods, lost counts, boxes, scores, classes, areas of
masks), of those recorded.

| tracker | frames | instances | costs of pairs |
|---|---|---|---|
{rows}
"""


def trackers() -> str:
    """Run them all again, and count what is equal."""
    rows = []
    for tracker in TRACKERS:
        equal, total = np.zeros(3, int), np.zeros(3, int)
        for sequence in SEQUENCES:
            for config in CONFIGS:
                for wanted, found in replay(sequence, f"{tracker}/{config}"):
                    costs = np.size(wanted.get("cost_matrix", []))
                    counts = np.array([1, len(wanted["ID"]), costs])
                    total += counts
                    equal += counts * (found == wanted)
        columns = [f"{a} of {b}" if b else "-" for a, b in zip(equal, total, strict=True)]
        rows.append(f"| {tracker} | {' | '.join(columns)} |")
    return PAGE.format(rows="\n".join(rows))
