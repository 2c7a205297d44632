"""The page that benchmarks/report.py writes."""

from __future__ import annotations

import sys

import pytest

from tests.support.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import machine
import report
import results
from harness import Result, Row


def _result(name: str, goal: float, library: str = "torchvision", **others) -> Result:
    result = Result(name, f"title of {name}", goal, library, "ms", f"benchmarks/rows.py {name}")
    result.processor, result.threads, result.date = "some processor", 2, "2026-01-31"
    result.instruction_sets = ["AVX2"]
    for key, value in others.items():
        setattr(result, key, value)
    return result


def test_rows():
    measured = [
        _result("met", 0.5, ours=0.002, theirs=0.008, versions={"A": "1", "B": "2"}),
        _result("missed", 0.5, ours=0.16, theirs=0.2, limit="bytes", date="2026-01-29"),
        _result("missing", 0.5, ours=0.012, skipped="no torchvision"),
        _result("absolute", 0.5, library="", ours=0.4),
        _result("nowhere", 0.5, skipped="no GPU", date="2026-01-01"),
    ]
    page = report.format_page({measured[0].machine: measured})
    command = "`benchmarks/rows.py"
    assert "## some processor, AVX2, 2 threads\n" in page
    assert f"| 2.00 ms | torchvision 8.00 ms | 0.25 | 0.50 | yes | {command} met` |" in page
    assert "| 160 ms | torchvision 200 ms | 0.80 | 0.50 | **no** |" in page
    assert "| 12.0 ms | skipped: no torchvision | - | 0.50 |  |" in page
    assert "| 400 ms | - | - | 500 ms | yes |" in page
    assert "| - | skipped: no GPU | - | 0.50 |  |" in page
    assert "Measured 2026-01-29 to 2026-01-31 with A 1, B 2." in page
    assert "- title of missed: bytes." in page


def test_nothing_is_missed():
    page = report.format_page({"m": [_result("met", 0.5, ours=0.002, theirs=0.008)]})
    assert "What limits" not in page


def _tables(folder, rows, scripts=("rows",)):
    rows = [Row(name, f"new title of {name}", 0.9, lambda: None) for name in rows]
    return results.load_tables(rows, scripts, folder)


def test_a_table_for_each_kind_of_processor(tmp_path):
    here = [_result("b", 0.5, ours=1.0, samples={"ours": [{}]}), _result("a", 0.5, ours=2.0)]
    there = _result("a", 0.5, ours=3.0, instruction_sets=["AVX2", "AVX-512"])
    results.merge([*here, there], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "some-processor-avx2-2-threads.json",
        "some-processor-avx2-avx-512-2-threads.json",
    ]
    # A run on one machine changes its own table alone.
    results.merge([_result("a", 0.5, ours=4.0)], tmp_path)
    tables = _tables(tmp_path, "ab")
    values = {name: [(r.name, r.ours) for r in table] for name, table in tables.items()}
    assert values == {
        "some processor, AVX2, 2 threads": [("a", 4.0), ("b", 1.0)],
        "some processor, AVX2, AVX-512, 2 threads": [("a", 3.0)],
    }
    page = report.format_page(tables)
    assert page.count("| benchmark | tfdetect |") == 2
    assert page.count("| new title of b |") == 1


def test_titles_and_goals_are_those_of_now(tmp_path):
    results.merge([_result("a", 0.5, ours=0.8, theirs=1.0), _result("gone", 1.0)], tmp_path)
    ((result,),) = _tables(tmp_path, "a").values()
    assert (result.title, result.goal, result.met) == ("new title of a", 0.9, True)


@pytest.mark.parametrize(
    ("new", "kept"),
    [
        ({"ours": 2.0, "theirs": 2.0}, 2.0),
        ({"ours": 2.0, "theirs": 2.0, "date": "2026-01-30"}, 1.0),  # older
        ({"ours": 2.0, "skipped": "no torchvision"}, 1.0),
        ({"skipped": "no operators"}, 1.0),
    ],
)
def test_what_a_new_result_replaces(tmp_path, new, kept):
    results.merge([_result("a", 0.5, ours=1.0, theirs=2.0)], tmp_path)
    results.merge([_result("a", 0.5, **new)], tmp_path)
    ((result,),) = _tables(tmp_path, "a").values()
    assert result.ours == kept


def test_rows_of_compilers_that_are_not_here_stay(tmp_path):
    other = _result("compiler_x", 1.0, ours=1.0, command="benchmarks/compilers.py compiler_x")
    results.merge([other, _result("a", 0.5, ours=1.0)], tmp_path)
    ((*names,),) = _tables(tmp_path, "a", ("compilers", "rows")).values()
    assert [result.name for result in names] == ["compiler_x", "a"]


@pytest.mark.parametrize(
    ("flags", "sets"),
    [
        ("fpu sse2", []),
        ("fpu avx2 fma", ["AVX2"]),
        ("avx2 avx512f avx512_vnni", ["AVX2", "AVX-512", "VNNI"]),
        (
            "avx2 avx512f avx512_vnni avx512_bf16 amx_bf16",
            ["AVX2", "AVX-512", "VNNI", "BF16", "AMX"],
        ),
    ],
)
def test_instruction_sets(tmp_path, monkeypatch, flags, sets):
    info = tmp_path / "cpuinfo"
    info.write_text(f"model name\t: some processor\nflags\t\t: {flags}\n")
    monkeypatch.setattr(machine, "CPU_INFO", info)
    assert machine.instruction_sets() == sets
    assert machine.processor() == "some processor"


def test_what_is_committed_can_be_read():
    assert all(results.load_tables(list(report.all_rows()), report.SCRIPTS).values())


def test_rows_have_different_names():
    names = [row.name for row in report.all_rows()]
    assert len(names) == len(set(names))
