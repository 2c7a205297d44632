"""docs/troubleshooting.md quotes the messages that the code prints."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
MESSAGES = re.findall(r"^- `([^`]+)`$", PAGE.read_text(), re.M)

HOLE = "\0"
"""In a template: what is put into the message when it is made."""


def templates_of(source: str) -> list[str]:
    """The texts of a Python file, with a hole for each value of an f-string and each %s."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.sub(r"%[sd]", HOLE, node.value))
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
            found.append("".join(map(str, parts)))
    return found


@functools.cache
def templates() -> list[str]:
    """Of everything that prints messages; those of the Makefile and of C++ are within quotes."""
    found = re.findall(r'"([^"\n]+)"', (ROOT / "Makefile").read_text())
    found = [re.sub(r"%d(\.%d)*", HOLE, text) for text in found]
    for path in (ROOT / "tfdetect" / "ops" / "kernels").glob("*.[hc]*"):
        joined = re.sub(r'"\s+"', "", path.read_text())
        found += re.findall(r'"([^"\n]+)"', joined)
    for folder in ("tfdetect", "convert_d2"):
        for path in (ROOT / folder).rglob("*.py"):
            found += templates_of(path.read_text())
    return found


def is_printed(message: str, templates: list[str]) -> bool:
    """Whether one template has the message's constant parts, with a hole where it has <...>.

    A message may leave out the template's end or its beginning, at a hole or not.
    """
    parts = [re.escape(part) for part in re.split(r"<[^>]*>", message)]
    # At its ends what differs may come from elsewhere: "<file>: {error}".
    pattern = re.compile(f"{HOLE}+".join(parts).removeprefix(f"{HOLE}+").removesuffix(f"{HOLE}+"))
    return any(pattern.search(template) for template in templates)


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_printed(message):
    assert is_printed(message, templates()), "no such message in the source: correct the page"


def test_a_message_that_changed_is_found():
    old = templates_of('print(f"{path}: is empty ({reason}); save it again")')
    assert is_printed("<file>: is empty (<reason>); save it again", old)
    assert not is_printed("<file>: is empty (<reason>); download it again", old)
    assert not is_printed("<file>: is empty (for a reason); save it again", old)
    assert not is_printed("<file>: is not empty (<reason>); save it again", old)


def test_there_are_messages_of_every_section():
    sections = PAGE.read_text().split("\n## ")[1:]
    assert len(sections) == 10
    assert all("- `" in section for section in sections)
    assert len(MESSAGES) >= 40
    assert len(set(MESSAGES)) == len(MESSAGES)
