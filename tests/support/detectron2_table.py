"""docs/coming-from-detectron2.md as data."""

from __future__ import annotations

from functools import cache

from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "coming-from-detectron2.md"


@cache
def rows(section: str) -> list[tuple[str, str, str]]:
    """The three columns of the table below a heading, without backticks in the first."""
    text = PAGE.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    found = [tuple(cell.strip(" |") for cell in [*line, ""][:3]) for line in lines[1:]]
    return [(first.strip("`"), status, notes) for first, status, notes in found]
