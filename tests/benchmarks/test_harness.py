"""The logic of the benchmarks' harness, on rows that take no time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import harness
import machine

SCRIPT = """
import os
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import harness
import machine
from harness import Row, Side, Skip, main

harness.RESULTS = Path({output!r})
values = iter([100.0, 1.0, 3.0, 2.0])


def ours():
    print("not an answer")
    return Side({{"A": "1"}}, lambda: {{"seconds": next(values)}}, lambda s: f"bound: {{s}}")


def theirs():
    return Side({{"B": "2"}}, lambda: {{"seconds": 2 * next(values)}})


def nowhere():
    raise Skip("no GPU")


def elsewhere():
    return Side({{"interpreter": os.environ["WRAPPER"]}}, lambda: {{"seconds": 2.0}})


main([
    Row("met", "met", 0.5, ours, "other", theirs, runs=3, warm_up=1),
    Row("missed", "missed", 0.4, ours, "other", theirs, runs=3, warm_up=1),
    Row("missing", "missing", 0.5, ours, "other", theirs, needs=("no_such_module",), warm_up=1),
    Row("absolute", "absolute", 2.0, ours, unit="s", warm_up=1),
    Row("nowhere", "nowhere", 0.5, nowhere, "other", theirs),
    Row("bounded", "bounded", 9.0, ours, unit="s", warm_up=1, bounded=True),
    Row("reference", "reference", 9.0, ours, "other", elsewhere, needs=("json",), warm_up=1),
    Row("rivals", "rivals", 9.0, ours, "other", elsewhere, needs=("json",), rivals=("theirs",),
        warm_up=1),
])
"""


@pytest.fixture
def run(tmp_path):
    script = tmp_path / "rows.py"
    script.write_text(SCRIPT.format(folder=str(ROOT / "benchmarks"), output=str(tmp_path)))

    def run(row, *options):
        command = [sys.executable, str(script), row, "--runs", "3", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        path = tmp_path / f"{row}.json"
        return done.stdout, harness.load(path) if path.exists() else None

    return run


def test_medians_after_the_warm_up(run):
    printed, result = run("met")
    assert (result.ours, result.theirs, result.ratio, result.met) == (2.0, 4.0, 0.5, True)
    assert result.versions == {"A": "1", "B": "2"}
    assert len(result.samples["ours"]) == 3
    assert {"cpu_seconds", "peak_mb"} <= result.samples["ours"][0].keys()
    assert result.samples["ours"][0]["peak_mb"] > 0
    assert "ratio 0.50, goal at most 0.50: met" in printed


def test_a_goal_that_is_missed_has_its_limit(run):
    printed, result = run("missed")
    assert result.met is False
    assert result.limit == "bound: 2.0"
    assert "NOT met" in printed


def test_without_the_other_library_the_comparison_is_skipped(run):
    printed, result = run("missing")
    assert (result.ours, result.theirs, result.met) == (2.0, None, None)
    assert "no_such_module" in result.skipped
    assert "comparison skipped" in printed


def test_goal_without_another_library(run):
    printed, result = run("absolute")
    assert (result.met, result.ratio) == (True, None)
    assert "2.00 s, goal at most 2.00 s: met" in printed


def test_a_row_that_cannot_run_leaves_an_earlier_result(run, tmp_path):
    printed, result = run("nowhere")
    assert "skipped: no GPU" in printed
    assert result.ours is None
    earlier = vars(result) | {"ours": 1.0}
    (tmp_path / "nowhere.json").write_text(json.dumps(earlier))
    assert run("nowhere")[1].ours == 1.0


def test_what_bounds_a_row_can_be_said_where_its_goal_is_met(run):
    _, result = run("bounded")
    assert (result.met, result.limit) == (True, "bound: 2.0")


@pytest.mark.parametrize("name", ["reference", "rivals"])
def test_each_library_has_its_python(run, tmp_path, name):
    options = []
    for wrapper in ("reference", "rivals"):
        path = tmp_path / f"python_of_{wrapper}"
        path.write_text(f'#!/bin/sh\nWRAPPER={wrapper} exec {sys.executable} "$@"\n')
        path.chmod(0o755)
        options += [f"--{wrapper}", str(path)]
    _, result = run(name, *options)
    assert result.versions == {"A": "1", "interpreter": name}
    assert "AVX" not in result.processor
    assert result.machine.startswith(result.processor)


@pytest.mark.skipif(not machine.PEAK_RESET.exists(), reason="not Linux")
def test_the_memory_that_a_call_adds():
    # In a process of its own, whose malloc keeps nothing; its peak is before the calls.
    code = """
import machine
bytearray(b"1") * 2**27
print(*(machine.added_mb(lambda: bytearray(b"1") * (size * 2**20)) for size in (64, 96)))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True
    )
    small, large = map(float, done.stdout.split())
    assert 62 < small < 68
    assert 94 < large < 100


def test_sides_take_turns():
    order = []
    sides = {name: lambda name=name: order.append(name) or {"n": len(order)} for name in "ab"}
    samples = harness.interleave(sides, runs=2, warm_up=1)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert samples == {"a": [{"n": 4}, {"n": 5}], "b": [{"n": 3}, {"n": 6}]}
