"""Imports go one way: a room of tfdetect imports from the rooms before it in ROOMS, or itself.

Read from the source, so that imports within functions and for type checkers count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

FOUNDATION = "foundation"
"""Modules that lie in tfdetect/ itself: errors, files, ..."""
ROOMS = (
    *(FOUNDATION, "config", "ops", "layers", "masks", "modeling", "checkpoint", "inference"),
    *("data", "evaluation", "tracking", "visualize", "training", "export", "batch"),
    *("serving", "cli"),
)
# What convert_d2 builds on; of cli what is process-wide.
FOR_CONVERSION = (
    *(FOUNDATION, "config", "ops", "layers", "modeling", "checkpoint", "inference", "data", "cli"),
)
OWN = ("tfdetect", "convert_d2", "tests", "benchmarks")


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """The modules of a package, such as ("tfdetect.data.coco", its file)."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def imported(tree: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
    """Line and module of every import; `names` are what "from package import module" may mean."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield node.lineno, longer if longer in names else str(node.module)


def room(module: str) -> str | None:
    """The room of a module of tfdetect; None for the door, tfdetect itself."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    if parts[-1] == "__main__":  # a command that `python -m` runs
        return "cli"
    return parts[1] if (ROOT / "tfdetect" / parts[1]).is_dir() else FOUNDATION


def wrong_imports() -> Iterator[str]:
    known = {name: path for package in OWN[:2] for name, path in modules(package)}
    for name, path in known.items():
        here = room(name) if name.startswith("tfdetect") else None
        for line, other in imported(ast.parse(path.read_text(encoding="utf-8")), set(known)):
            package = other.split(".")[0]
            if package not in OWN:
                continue
            where = f"{path.relative_to(ROOT)}:{line} imports {other}"
            if name.startswith("convert_d2"):
                there = room(other) if package == "tfdetect" else None
                if package in OWN[2:] or (package == "tfdetect" and there not in FOR_CONVERSION):
                    yield where
            elif package != "tfdetect":
                yield where
            elif here is not None:  # the door may import from every room
                there = room(other)
                if there is None or ROOMS.index(there) > ROOMS.index(here):
                    yield where


def test_every_room_is_in_the_list():
    assert {room(name) for name, _ in modules("tfdetect")} - {None} <= set(ROOMS)


def test_imports_go_one_way():
    wrong = list(wrong_imports())
    assert not wrong, "\n".join(wrong)
