"""docs/coming-from-detectron2.md lists Detectron2's classes, and what it says they are here exists.

`detectron2_classes.json` has the classes of its modeling, layers, data, evaluation, tracking and
solver (main, commit 02b5c4e2), read from the names in its files. The configuration keys are in
tests/config/test_coming_from_detectron2.py.
"""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

import convert_d2.lazy_config.conversion  # noqa: F401 - registers the classes
from convert_d2.lazy_config.arguments import known_classes, unsupported_classes
from tests.support.detectron2_table import PAGE, rows
from tests.support.paths import ROOT

CLASSES = json.loads((Path(__file__).parent / "detectron2_classes.json").read_text())
ROWS = {name: (status, notes) for name, status, notes in rows("Classes")}


@cache
def defined():
    """Classes, functions and constants of the package."""
    found = set()
    for path in (ROOT / "tfdetect").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
            elif isinstance(node, ast.Assign):
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_each_class_has_a_row():
    assert [name for name, _, _ in rows("Classes")] == CLASSES
    assert len(CLASSES) == 147


@pytest.mark.parametrize("name", CLASSES)
def test_row(name):
    """What a row names exists; what is "none" says why."""
    status, notes = ROWS[name]
    short = name.rpartition(".")[2]
    if status == "none":
        assert notes
        return
    other = re.fullmatch(r"as `(\w+)`", status)
    assert status == "same" or other
    assert (other[1] if other else short) in defined()
    assert not other or other[1] != short
    for also in re.findall(r"`(\w+)`", notes):
        assert also in defined() or also == "output_shapes"


def test_lazy_configs_know_what_the_page_says():
    """Classes that a LazyConfig can have are not "none", and those it is told off for are."""

    def of_page(names):
        return {
            name.removeprefix("detectron2.")
            for name in names
            if name.removeprefix("detectron2.") in ROWS
        }

    known, unsupported = of_page(known_classes()), of_page(unsupported_classes())
    assert len(known) > 25
    assert len(unsupported) >= 2
    assert {name for name in known if ROWS[name][0] == "none"} == set()
    assert {name for name in unsupported if ROWS[name][0] != "none"} == set()


def test_statuses_are_explained():
    text = PAGE.read_text()
    used = {
        status.partition(" `")[0]
        for section in ("Classes", "Configuration")
        for _, status, _ in rows(section)
    }
    explained = set(re.findall(r"^- \*\*([a-z ]+)[ .]*\*\*:", text, re.M))
    assert {status.strip() for status in used} == {status.strip() for status in explained}
