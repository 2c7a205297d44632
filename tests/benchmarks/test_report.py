"""The page that benchmarks/report.py writes."""

from __future__ import annotations

import sys

from tests.support.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import report
from harness import Result


def _result(name: str, goal: float, library: str = "torchvision", **others) -> Result:
    result = Result(name, f"title of {name}", goal, library, "ms", f"benchmarks/rows.py {name}")
    result.processor, result.threads, result.date = "some processor", 2, "2026-01-31"
    for key, value in others.items():
        setattr(result, key, value)
    return result


def test_rows():
    page = report.format_page(
        [
            _result("met", 0.5, ours=0.002, theirs=0.008, versions={"A": "1", "B": "2"}),
            _result("missed", 0.5, ours=0.16, theirs=0.2, limit="bytes", date="2026-01-29"),
            _result("missing", 0.5, ours=0.012, skipped="no torchvision"),
            _result("absolute", 0.5, library="", ours=0.4),
            _result("nowhere", 0.5, skipped="no GPU", processor=""),
        ]
    )
    command = "`benchmarks/rows.py"
    assert f"| 2.00 ms | torchvision 8.00 ms | 0.25 | 0.50 | yes | {command} met` |" in page
    assert "| 160 ms | torchvision 200 ms | 0.80 | 0.50 | **no** |" in page
    assert "| 12.0 ms | skipped: no torchvision | - | 0.50 |  |" in page
    assert "| 400 ms | - | - | 500 ms | yes |" in page
    assert "| - | skipped: no GPU | - | 0.50 |  |" in page
    assert "- some processor, 2 threads, 2026-01-29 to 2026-01-31: A 1, B 2." in page
    assert "- title of missed: bytes." in page


def test_nothing_is_missed():
    page = report.format_page([_result("met", 0.5, ours=0.002, theirs=0.008)])
    assert "limits" not in page


def test_rows_have_different_names():
    names = [row.name for row in report.all_rows()]
    assert len(names) == len(set(names))
