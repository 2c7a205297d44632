"""The pages of documentation, and the commands and the Python that they print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(
    r"^(?:<!-- needs: (?P<needs>[^>\n]+) -->\n)?```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$", re.M
)
_COMMAND = re.compile(
    r"(?:\w+=\S* )*(?:python|make|pip|docker|tensorboard|tfdetect|(?:predict|train|convert_d2)\.py)"
    r"(?: |$)"
)


@dataclass(frozen=True)
class Block:
    """What stands between two fences.

    `language` is empty for commands, `python` for Python and `text` for what is printed; `needs`
    is what the comment before the block says that running it takes, or empty.
    """

    page: str
    line: int
    language: str
    needs: str
    text: str

    @property
    def name(self) -> str:
        """For the name of a test: the page and the line in it."""
        return f"{Path(self.page).name}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command."""
        return [shlex.split(line) for line in self.text.replace("\\\n", " ").splitlines()]


def blocks() -> Iterator[Block]:
    """Of all pages, in their order."""
    for path in PAGES:
        content = path.read_text()
        for found in _FENCE.finditer(content):
            line = content.count("\n", 0, found.start("text")) + 1
            page = str(path.relative_to(ROOT))
            yield Block(page, line, found["language"], found["needs"] or "", found["text"])


def inline_commands() -> Iterator[tuple[str, list[str]]]:
    """The page and the words of each command within running text."""
    for path in PAGES:
        for code in re.findall(r"`([^`]+)`", _FENCE.sub("", path.read_text())):
            if _COMMAND.match(code):
                yield str(path.relative_to(ROOT)), shlex.split(code)
