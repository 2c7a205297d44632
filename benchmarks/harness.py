"""Rows of the table of speeds: what this project takes for something, and what another library.

A script of rows calls `main` with them; `python benchmarks/SCRIPT.py [ROW ...]` runs them. The two
sides of a row run in processes of their own, which stay and wait for orders, so that runs of the
two can alternate: what slows the machine for a while slows both. The other library may live in
another environment: `--reference` names the Python that has PyTorch and Detectron2, `--rivals` the
one that has ONNX Runtime and OpenVINO. That Python runs the script too, so that a script imports
TensorFlow, this project or the other library only within the function that sets a side up. An
unavailable side is skipped, and the row says so.

    def _ours() -> Side:
        import tensorflow as tf
        ...
        return Side({"TensorFlow": tf.__version__}, run)

    ROWS = [Row("resize", "uint8 resize", 1.0, _ours, "Pillow", _pillow, needs=("PIL",))]

    if __name__ == "__main__":
        main(ROWS)

report.py lists the scripts whose ROWS the table has.

Both sides use as many threads as the libraries' defaults are: one per processor core.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import instruction_sets, peak_mb, processor

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "output" / "performance"
# Both sides find this project.
sys.path.append(str(ROOT))

OURS = "tfdetect"
# The Pythons that run sides, by what they have; in the environment, for what sides start.
_PYTHONS = {
    "ours": "TFDETECT_PYTHON",
    "reference": "TFDETECT_REFERENCE",
    "rivals": "TFDETECT_RIVALS",
}


class Skip(Exception):
    """A side cannot run here; the message says why."""


@dataclass(frozen=True)
class Side:
    """One side of a row, set up.

    Attributes:
        versions: of each library that matters, by its name.
        run: does what is timed, once, and waits for the result. May return what it measured
            itself; "seconds" among it replaces the time that the call took.
        limit: given what the row measured of this side (the median), says what bounds it, as
            "reads 250 MB: 12 ms at 21 GB/s". Called after the runs, if the goal was not met.
    """

    versions: dict[str, str]
    run: Callable[[], dict[str, float] | None]
    limit: Callable[[float], str] | None = None


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: of the file of its result, and on the command line.
        title: what is measured.
        goal: the most that ours may be, as a share of theirs, or in `unit` if there is no other.
        ours: sets this project's side up. May raise `Skip`.
        library: the name of the other side; "" if there is none.
        theirs: sets the other side up. May raise `Skip`.
        needs: modules without which there is no other side. Only a side that needs something is
            run by another Python: the reference's.
        rivals: the sides, "ours" and "theirs", that the rivals' Python runs instead.
        measure: what is compared: "seconds", "cpu_seconds" (of all threads: other users of the
            machine change it less), "peak_mb", or anything that both `run`s return.
        unit: of the table: "ms" or "s" for seconds, else it is only printed.
        runs: how many of each are measured.
        warm_up: how many before that are not.
        limit: what bounds ours if the goal was not met, where that is known beforehand.
        bounded: whether what bounds ours is said where the goal was met, too.
    """

    name: str
    title: str
    goal: float
    ours: Callable[[], Side]
    library: str = ""
    theirs: Callable[[], Side] | None = None
    needs: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    measure: str = "seconds"
    unit: str = "ms"
    runs: int = 10
    warm_up: int = 2
    limit: str = ""
    bounded: bool = False


@dataclass
class Result:
    """What a row gave; times in seconds. `versions` are both sides'."""

    name: str
    title: str
    goal: float
    library: str
    unit: str
    command: str
    ours: float | None = None
    theirs: float | None = None
    skipped: str = ""
    limit: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    processor: str = ""
    instruction_sets: list[str] = field(default_factory=list)
    threads: int = 0
    date: str = ""

    @property
    def machine(self) -> str:
        """The kind of processor: results of two kinds are not compared."""
        return ", ".join([self.processor, *self.instruction_sets, f"{self.threads} threads"])

    @property
    def ratio(self) -> float | None:
        """Ours as a share of theirs, or None where one is missing."""
        return None if self.ours is None or self.theirs is None else self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """Whether the goal was met, or None where that was not measured."""
        value = self.ratio if self.library else self.ours
        return None if value is None else value <= self.goal

    def amount(self, value: float | None) -> str:
        """A measured value for the table, in the row's unit."""
        if value is None:
            return "-"
        if self.unit == "ms":
            value *= 1e3
        return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {self.unit}"

    def target(self) -> str:
        """The goal for the table."""
        return f"{self.goal:.2f}" if self.library else self.amount(self.goal)


def main(rows: Sequence[Row]) -> list[Result]:
    """The command line of a script of rows: run them, print, save and return what they give."""
    names = [row.name for row in rows]
    parser = argparse.ArgumentParser(description=f"Time {', '.join(row.title for row in rows)}.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--runs", type=int, help="measured runs of each side")
    add_pythons(parser)
    parser.add_argument("--child", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = sorted(set(args.rows) - set(names))
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(names)}")
    chosen = [row for row in rows if not args.rows or row.name in args.rows]
    if args.child:
        _serve(chosen[0], args.child)
        return []
    use_pythons(args)
    results = []
    for row in chosen:
        result = compare(row, Path(sys.argv[0]), args.runs or row.runs)
        print(describe(result), flush=True)
        save(result)
        results.append(result)
    return results


def add_pythons(parser: argparse.ArgumentParser) -> None:
    """The options that name the other libraries' Pythons."""
    for option, libraries in (
        ("--reference", "PyTorch, torchvision and Detectron2"),
        ("--rivals", "ONNX Runtime, OpenVINO and NNCF"),
    ):
        name = option.removeprefix("--")
        parser.add_argument(
            option,
            default=python(name),
            metavar="PYTHON",
            help=f"the Python that has {libraries} (default: {_PYTHONS[name]} in the environment, "
            "else the one that runs this)",
        )


def use_pythons(args: argparse.Namespace) -> None:
    """Have `python` name those of the command line, in every process that is started."""
    values = {"ours": sys.executable, "reference": args.reference, "rivals": args.rivals}
    os.environ.update({_PYTHONS[name]: value for name, value in values.items()})


def python(name: str) -> str:
    """The Python of "ours", the "reference" or the "rivals"."""
    return os.environ.get(_PYTHONS[name], sys.executable)


def compare(row: Row, script: Path, runs: int) -> Result:
    """Run a row of a script of rows.

    Args:
        row: one of `script`'s.
        script: which calls `main`.
        runs: how many of each side are measured.

    Raises:
        SystemExit: a side failed; its error is on stderr.
    """
    result = Result(
        row.name, row.title, row.goal, row.library, row.unit, f"benchmarks/{script.name} {row.name}"
    )
    result.processor, result.threads = processor(), len(os.sched_getaffinity(0))
    result.instruction_sets = instruction_sets()
    result.date = datetime.date.today().isoformat()
    pythons = {"ours": "ours"}
    if row.theirs is not None:
        pythons["theirs"] = "reference" if row.needs else "ours"
    pythons |= dict.fromkeys(row.rivals, "rivals")
    children = {side: _Child(python(name), script, row, side) for side, name in pythons.items()}
    try:
        for side in pythons:
            started = children[side].ask("")
            if "skipped" in started:
                result.skipped = started["skipped"]
                children.pop(side).stop()
                if side == "ours":
                    return result
            else:
                result.versions |= started["versions"]
        samples = interleave(
            {side: child.run for side, child in children.items()}, runs, row.warm_up
        )
        medians = {
            side: statistics.median(sample[row.measure] for sample in taken)
            for side, taken in samples.items()
        }
        result.samples, result.ours, result.theirs = samples, medians["ours"], medians.get("theirs")
        if result.met is False or row.bounded:
            result.limit = row.limit or children["ours"].ask(f"limit {result.ours}")["limit"]
    finally:
        for child in children.values():
            child.stop()
    return result


def interleave(
    sides: dict[str, Callable[[], dict[str, float]]], runs: int, warm_up: int
) -> dict[str, list[dict[str, float]]]:
    """What each of several functions returns, `runs` times, in turns after a warm-up."""
    samples: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for index in range(warm_up + runs):
        # The other way round every other time, so that none is always the one that comes after.
        for side in list(sides)[:: -1 if index % 2 else 1]:
            sample = sides[side]()
            if index >= warm_up:
                samples[side].append(sample)
    return samples


class _Child:
    """A side in a process of its own."""

    def __init__(self, python: str, script: Path, row: Row, side: str):
        self._process = subprocess.Popen(
            [python, str(script), row.name, "--child", side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, order: str) -> dict[str, Any]:
        """Its answer to an order; to "", what it says once it is set up."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if order:
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the benchmark's process has failed; its error is above")
        return json.loads(line)

    def run(self) -> dict[str, float]:
        # Threads that spin for a while after the other side's run are at rest after this.
        time.sleep(0.05)
        return self.ask("run")

    def stop(self) -> None:
        # With the processes that it has started to load data, which would keep its pipe open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def _serve(row: Row, side: str) -> None:
    """In the child: set the side up, then do what each line of standard input says."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer

    def answer(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=answers, flush=True)

    setup = row.ours if side == "ours" else row.theirs
    assert setup is not None
    try:
        if side == "theirs":
            _check_modules(row.needs)
        made = setup()
    except Skip as reason:
        answer({"skipped": str(reason)})
        return
    answer({"versions": made.versions})
    loaded = peak_mb()
    for line in sys.stdin:
        order, _, value = line.partition(" ")
        if order.strip() == "limit":
            answer({"limit": made.limit(float(value)) if made.limit else ""})
            continue
        start, cpu_start = time.perf_counter(), time.process_time()
        measured = made.run()
        times = {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu_start,
        }
        memory = {"loaded_mb": loaded, "peak_mb": peak_mb()}
        answer(times | memory | (measured or {}))


def _check_modules(names: Iterable[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Skip(f"{name} is not installed ({error})") from error


def describe(result: Result) -> str:
    """A result in a few lines of text."""
    if result.ours is None:
        return f"{result.title}: skipped: {result.skipped}"
    text = f"{result.title}: {OURS} {result.amount(result.ours)}"
    if result.theirs is not None:
        text += f", {result.library} {result.amount(result.theirs)}, ratio {result.ratio:.2f}"
    text += f", goal at most {result.target()}"
    text += {None: f"; comparison skipped: {result.skipped}", True: ": met", False: ": NOT met"}[
        result.met
    ]
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    runs = len(result.samples["ours"])
    text += f"\n    {versions}; {result.machine}; medians of {runs} runs"
    return text + (f"\n    limit: {result.limit}" if result.limit else "")


def save(result: Result) -> None:
    """Write a result for the report. What is skipped here leaves another machine's in place."""
    path = RESULTS / f"{result.name}.json"
    if result.ours is None and path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(vars(result), indent=1) + "\n")


def load(path: Path) -> Result:
    """A result that `save` wrote."""
    return Result(**json.loads(path.read_text()))
