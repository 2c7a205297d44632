"""Metrics as tables of plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def format_metrics(
    metrics: Mapping[str, Mapping[str, float]], names: Sequence[str], per_class: str
) -> str:
    """Two tables: the metrics by task, and where there are any, those of each class.

    A dash marks a metric that a task does not have, or that cannot be computed.

    Args:
        metrics: by task, each metric in percent; those of a class are called `AP-NAME`.
        names: the columns of the first table.
        per_class: which metric there is of each class, "AP".
    """
    rows = [
        [task, *(_cell(values.get(name)) for name in names)] for task, values in metrics.items()
    ]
    tables = [_align([["task", *names], *rows])]
    prefix = f"{per_class}-"
    categories: dict[str, None] = {}
    for values in metrics.values():
        categories.update(dict.fromkeys(key for key in values if key.startswith(prefix)))
    if categories:
        rows = [
            [
                " ".join(key.removeprefix(prefix).split()),
                *(_cell(values.get(key)) for values in metrics.values()),
            ]
            for key in categories
        ]
        heading = ["category", *(f"{task} {per_class}" for task in metrics)]
        tables.append(_align([heading, *rows]))
    return "\n\n".join(tables)


def percent(value: float) -> float:
    """pycocotools' value in percent, with NaN instead of its -1 for no ground truth."""
    return float(value) * 100 if value >= 0 else math.nan


def _cell(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def _align(rows: list[list[str]]) -> str:
    """Columns of equal width, the first to the left, numbers to the right, a rule below row 0."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
