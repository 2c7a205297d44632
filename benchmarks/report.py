"""The table of speeds, docs/performance.md: runs every script of rows, and says what they gave.

A script that is listed here has its rows in ROWS. What was measured here is in output/performance,
and goes from there to benchmarks/results, which has what was measured on other machines too: the
page has a table of each kind of processor. `--saved` writes it without running anything, after some
of the scripts were run by themselves.

    python benchmarks/report.py docs/performance.md [--saved] [--reference PYTHON] [--rivals PYTHON]
"""

from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import results
from harness import RESULTS, ROOT, Result, Row, add_pythons, load, use_pythons

SCRIPTS = (
    "predict",
    "rivals",
    "rival_heads",
    "transformers",
    "batch",
    "compilers",
    "start",
    "large_image",
    "coco_size",
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

PAGE = """# Speed compared with Detectron2, torchvision, ONNX Runtime, OpenVINO and Pillow

Written by `python benchmarks/report.py docs/performance.md`; do not edit.

To reproduce it: `TFDETECT_REFERENCE=PYTHON TFDETECT_RIVALS=PYTHON make bench`. The first PYTHON is
the interpreter of an environment with PyTorch, torchvision, onnx and Detectron2, the second of one
with onnxruntime, openvino and nncf (install them by their own instructions; what is missing is
skipped). To run a single row, run its command below with `python`, `--reference PYTHON` and
`--rivals PYTHON`.

The numbers are medians of alternating runs of the two libraries, after a warm-up, each in its own
process with all CPU cores. Both use the same seeded random weights, which produce as many proposals
and detections as a trained model. "Goal" is the upper limit for the ratio, or for the value itself
if there is nothing to compare with. To see where inference
time goes, see [profiling.md](profiling.md); which convolutions a CPU uses, and what compilers make
of them, is in [convolutions.md](convolutions.md).

There is a table for each kind of processor: its name, the instruction sets that matter and the
number of threads. A run adds or changes the table of its own machine's kind; what it is made of is
in benchmarks/results.

Memory: operators allocate with TensorFlow's allocator. The commands keep what malloc frees
(`tfdetect/cli/heap.py`), and so do these rows. A program of your own has malloc's defaults, which
return every block over 32 MB to the system: each prediction of Mask R-CNN R50-FPN at 800 x 1200
then clears 110,000 pages again, 0.4 s of its 4.9 s of processor time.

{tables}"""

TABLE = """## {machine}

| benchmark | tfdetect | compared with | ratio | goal | met | command |
|---|---|---|---|---|---|---|
{rows}

Measured {dates} with {libraries}.
{limits}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="the file to write")
    parser.add_argument("--saved", action="store_true", help="run nothing")
    add_pythons(parser)
    args = parser.parse_args()
    use_pythons(args)
    failed = [] if args.saved else [name for name in SCRIPTS if not _run(name)]
    rows = list(all_rows())
    paths = (RESULTS / f"{row.name}.json" for row in rows)
    results.merge(load(path) for path in paths if path.exists())
    page = format_page(results.load_tables(rows, SCRIPTS))
    args.output.write_text(page, encoding="utf-8")
    print(page[page.index("## ") :])
    if failed:
        print(f"failed, so that their rows are older or missing: {', '.join(failed)}")
    return 1 if failed else 0


def _run(name: str) -> bool:
    script = ROOT / "benchmarks" / f"{name}.py"
    return subprocess.run([sys.executable, str(script)], check=False).returncode == 0


def all_rows() -> Iterator[Row]:
    """The rows of the table in its order."""
    for name in SCRIPTS:
        # Not imported: predict.py and train.py are names in the project's root too.
        yield from runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"))["ROWS"]


def format_page(tables: Mapping[str, Sequence[Result]]) -> str:
    """The whole of docs/performance.md, of results by kind of processor."""
    return PAGE.format(tables="\n".join(_format_table(*table) for table in tables.items()))


def _format_table(machine: str, measured: Sequence[Result]) -> str:
    versions: dict[str, str] = {}
    for result in measured:
        versions |= result.versions
    dates = sorted({result.date for result in measured if result.ours is not None})
    bounds = [f"- {result.title}: {result.limit}." for result in measured if result.limit]
    limits = "\n".join(
        ["", "What limits the rows that miss their goals, and some others:", "", *bounds, ""]
    )
    return TABLE.format(
        machine=machine,
        rows="\n".join(map(_format_row, measured)),
        dates=" to ".join(dates[:1] + dates[1:][-1:]),
        libraries=", ".join(f"{name} {version}" for name, version in versions.items()),
        limits=limits if bounds else "",
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
