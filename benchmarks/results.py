"""What was measured, kept in benchmarks/results: a file for each kind of processor.

A kind is a processor's name, the instruction sets that matter and the number of threads. A run of
report.py changes the file of its own machine's kind alone, so that tables of others stay as they
are, and no table has rows of two.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness import ROOT, Result, Row

FOLDER = ROOT / "benchmarks" / "results"
# Whose rows are there or not with the compilers on PATH.
_DEPENDENT = "benchmarks/compilers.py"


def merge(results: Iterable[Result], folder: Path = FOLDER) -> None:
    """Write results to the files of their kinds.

    One that is there already stays if it is newer, or if it has a comparison that the new one had
    to skip.
    """
    kinds = defaultdict(list)
    for result in results:
        kinds[result.machine].append(dataclasses.replace(result, samples={}))
    for machine, new in kinds.items():
        path = folder / f"{re.sub('[^a-z0-9]+', '-', machine.lower())}.json"
        kept = {result.name: result for result in (_load(path) if path.exists() else [])}
        for result in new:
            if result.name not in kept or _replaces(result, kept[result.name]):
                kept[result.name] = result
        folder.mkdir(parents=True, exist_ok=True)
        ordered = [vars(kept[name]) for name in sorted(kept)]
        path.write_text(json.dumps(ordered, indent=1) + "\n")


def _replaces(new: Result, old: Result) -> bool:
    return new.date >= old.date and (not new.skipped or bool(old.skipped))


def load_tables(
    rows: Sequence[Row], scripts: Sequence[str], folder: Path = FOLDER
) -> dict[str, list[Result]]:
    """The results of each kind of processor, in the order of the rows.

    Titles and goals are those that the rows have now. What is not a row any more is left out.

    Args:
        rows: of the table.
        scripts: their names, in the same order.
        folder: what `merge` wrote to.
    """
    known = {row.name: (index, row) for index, row in enumerate(rows)}
    order = [f"benchmarks/{name}.py" for name in scripts]
    tables = {}
    for path in sorted(folder.glob("*.json")):
        places = []
        for result in _load(path):
            script = result.command.split()[0]
            if result.name in known:
                index, row = known[result.name]
                result.title, result.goal = row.title, row.goal
                places.append((order.index(script), index, result))
            elif script == _DEPENDENT and script in order:
                places.append((order.index(script), len(rows), result))
        places.sort(key=lambda place: (*place[:2], place[2].name))
        if places:
            tables[places[0][2].machine] = [result for *_, result in places]
    return tables


def _load(path: Path) -> list[Result]:
    return [Result(**values) for values in json.loads(path.read_text())]
