"""The table of speeds, docs/performance.md: runs every script of rows, and says what they gave.

A script that is listed here has its rows in ROWS. What was measured is kept in output/performance;
`--saved` writes the table of that alone, after some of the scripts were run by themselves.

    python benchmarks/report.py docs/performance.md [--saved] [--reference PYTHON]
"""

from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import RESULTS, ROOT, Result, Row, add_reference, load

SCRIPTS = (
    "predict",
    "transformers",
    "batch",
    "compilers",
    "start",
    "train",
    "train_transformers",
    "attention",
    "roi_align",
    "roi_pool",
    "point_sample",
    "rotated",
    "resize",
    "paste_masks",
    "keypoints",
    "roi_align_cuda",
)

PAGE = """# Speed compared with Detectron2, torchvision and Pillow

Written by `python benchmarks/report.py docs/performance.md`; do not edit.

To reproduce it: `TFDETECT_REFERENCE=PYTHON make bench`, where PYTHON is the interpreter of an
environment with PyTorch, torchvision and Detectron2 (install them by their own instructions;
without them the comparisons are skipped). To run a single row, run its command below with `python`
and `--reference PYTHON`.

The numbers are medians of alternating runs of the two libraries, after a warm-up, each in its own
process with all CPU cores. Both use the same seeded random weights, which produce as many proposals
and detections as a trained model. "Goal" is the upper limit for the ratio, or for the value itself
if there is nothing to compare with. To see where inference
time goes, see [profiling.md](profiling.md); which convolutions a CPU uses, and what compilers make
of them, is in [convolutions.md](convolutions.md).

Memory: operators allocate with TensorFlow's allocator. The commands keep what malloc frees
(`tfdetect/cli/heap.py`), and so do these rows. A program of your own has malloc's defaults, which
return every block over 32 MB to the system: each prediction of Mask R-CNN R50-FPN at 800 x 1200
then clears 110,000 pages again, 0.4 s of its 4.9 s of processor time.

| benchmark | tfdetect | compared with | ratio | goal | met | command |
|---|---|---|---|---|---|---|
{rows}

Measured on:

{machines}
{limits}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="the file to write")
    parser.add_argument("--saved", action="store_true", help="run nothing")
    add_reference(parser)
    args = parser.parse_args()
    failed = [] if args.saved else [name for name in SCRIPTS if not _run(name, args.reference)]
    page = format_page(list(_results()))
    args.output.write_text(page, encoding="utf-8")
    print(page[page.index("| benchmark") :])
    if failed:
        print(f"failed, so that their rows are older or missing: {', '.join(failed)}")
    return 1 if failed else 0


def _run(name: str, reference: str) -> bool:
    script = ROOT / "benchmarks" / f"{name}.py"
    command = [sys.executable, str(script), "--reference", reference]
    return subprocess.run(command, check=False).returncode == 0


def _results() -> Iterator[Result]:
    paths = (RESULTS / f"{row.name}.json" for row in all_rows())
    return (load(path) for path in paths if path.exists())


def all_rows() -> Iterator[Row]:
    """The rows of the table in its order."""
    for name in SCRIPTS:
        # Not imported: predict.py and train.py are names in the project's root too.
        yield from runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"))["ROWS"]


def format_page(results: Sequence[Result]) -> str:
    """The whole of docs/performance.md."""
    machines = defaultdict(list)
    versions: dict[str, dict[str, str]] = defaultdict(dict)
    for result in results:
        if result.ours is not None:
            machine = f"{result.processor}, {result.threads} threads"
            machines[machine].append(result)
            versions[machine] |= result.versions
    lines = []
    for machine, measured in machines.items():
        dates = sorted({result.date for result in measured})
        names = "" if len(machines) == 1 else f" ({', '.join(result.title for result in measured)})"
        libraries = ", ".join(f"{name} {version}" for name, version in versions[machine].items())
        lines.append(f"- {machine}, {' to '.join(dates[:1] + dates[1:][-1:])}{names}: {libraries}.")
    missed = [f"- {result.title}: {result.limit}." for result in results if result.limit]
    limits = "\n".join(["", "What limits the rows that miss their goals:", "", *missed, ""])
    return PAGE.format(
        rows="\n".join(map(_format_row, results)),
        machines="\n".join(lines),
        limits=limits if missed else "",
    )


def _format_row(result: Result) -> str:
    if result.ours is None:
        compared, met = f"skipped: {result.skipped}", ""
    else:
        compared = f"{result.library} {result.amount(result.theirs)}" if result.library else "-"
        if result.skipped:
            compared = f"skipped: {result.skipped}"
        met = {True: "yes", False: "**no**", None: ""}[result.met]
    ratio = "-" if result.ratio is None else f"{result.ratio:.2f}"
    return (
        f"| {result.title} | {result.amount(result.ours)} | {compared} | {ratio} "
        f"| {result.target()} | {met} | `{result.command}` |"
    )


if __name__ == "__main__":
    sys.exit(main())
