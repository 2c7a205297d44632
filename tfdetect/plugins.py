"""What packages add to tfdetect: their entry points, by group and name."""

from __future__ import annotations

import configparser
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group, by name, in the order in which they are declared.

    Those of installed packages. In a checkout those of its own entry_points.txt come first: what
    was installed from it may be older.
    """
    found = _of_checkout(group)
    for point in entry_points(group=group):
        found.setdefault(point.name, point)
    return found


def _of_checkout(group: str) -> dict[str, EntryPoint]:
    path = _CHECKOUT / "entry_points.txt"
    if not path.is_file() or not (_CHECKOUT / "pyproject.toml").is_file():
        return {}
    declared = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    declared.optionxform = str  # type: ignore[assignment, method-assign]
    declared.read(path, encoding="utf-8")
    pairs = declared.items(group) if declared.has_section(group) else ()
    return {name: EntryPoint(name, value, group) for name, value in pairs}
