"""Words that may not come back, and the standard term to use instead."""

from __future__ import annotations

import io
import re
import tokenize

import pytest

from tests.support.paths import ROOT

# In code: names of variables, functions, classes, arguments and files.
NAMES = {
    r"\w*[Ee]xtents": "valid_sizes, ValidSizes",
    r"\w*[Aa]ddends?\w*": "residual",
    r"doubled|nearest_double|CopyDoubled": "upsampled, upsample_2x",
    r"\w*[Ll]ineages?\w*": "source_library",
    r"Regions": "SampledProposals",
    r"\w*remarks?": "notes, messages",
    r"\w*(?:_per|every|first)_cells?\w*": "location",
    r"cells": "locations",
    r"stages_joint_rcnn|head_stages|proposal_stages": "intermediates",
    r"normalize_annotation": "validate_annotation",
    r"python_stage": "python_scope",
}
# Functions named so by Detectron2, and the cells of tables and notebooks.
ALLOWED = {"cell_anchors", "quantized_cell_anchors", "CELL_BYTES"}
TABLES = {"tests/parity/report.py", "tfdetect/evaluation/table.py", "tests/docs/test_notebooks.py"}

# In comments, docstrings, messages and pages.
PHRASES = {
    r"a person(?! within)": "a user",
    r"extents": "valid sizes, padding mask",
    r"addends?": "residual, term",
    r"lineages?": "source library",
    r"remarks?": "log messages, notes",
    r"cut short": "truncated",
    r"(?:be|been) had\b(?! \w+ed)": "be available",
    r"are (?:un)?meant(?! to)": "are valid (num_valid)",
    r"by falling": "in descending order of",
    r"falling (?:score|logit|order|area)": "descending",
    r"is none of": "is not one of",
    r"pass(?:ed|es)? over": "skip",
    r"anew": "again",
    r"(?:has|have) not[.,;:)]": "does not have",
    r"of itself": "a relative error",
    r"(?<!here\s)(?:is|was) no (?!longer|more|less|text|reason|need|use|place)[a-z]+": "is not a",
    r"(?<!here\s)(?:are|were) no (?!longer|more|less|reason)[a-z]+": "are not",
    r"whoever": "the caller, the user",
    r"refuses": "rejects",
    r"it is to be": "it should be, it will be",
    r"what becomes of": "name the result",
}

CODE = ("tfdetect", "convert_d2", "tests", "benchmarks")
OWN = "tests/test_wording.py"


def files(suffixes: tuple[str, ...]) -> list[str]:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")] if ".md" in suffixes else []
    sources = (path for folder in CODE for path in (ROOT / folder).rglob("*"))
    found = [path for path in sources if path.suffix in suffixes] + pages
    return sorted(str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts)


def python_parts(path: str) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """(line, name) of the names in a file, and (line, text) of its comments and strings."""
    names, texts = [], []
    with tokenize.open(ROOT / path) as file:
        content = file.read()
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.NAME:
            names.append((token.start[0], token.string))
        elif (
            token.type in (tokenize.COMMENT, tokenize.STRING)
            or "STRING_MIDDLE" in (tokenize.tok_name[token.type])
        ):
            texts.append((token.start[0], token.string))
    return names, texts


def unwanted(texts: list[tuple[int, str]], path: str) -> list[str]:
    found = []
    for pattern, instead in PHRASES.items():
        expression = re.compile(r"\b(?:" + pattern.replace(" ", r"\s+") + r")\b")
        for line, text in texts:
            for match in expression.finditer(text):
                number = line + text.count("\n", 0, match.start())
                found.append(f"{path}:{number}: {match[0]!r}, use: {instead}")
    return found


@pytest.mark.parametrize("folder", CODE)
def test_python(folder):
    found = []
    for path in files((".py",)):
        if not path.startswith(f"{folder}/") or path == OWN:
            continue
        names, texts = python_parts(path)
        for pattern, instead in NAMES.items():
            expression = re.compile(pattern)
            found += [
                f"{path}:{line}: {name}, use: {instead}"
                for line, name in names
                if expression.fullmatch(name) and name not in ALLOWED and path not in TABLES
            ]
        found += unwanted(texts, path)
    assert not found, "\n".join(found)


def test_native_sources_and_pages():
    found = []
    for path in files((".cc", ".h", ".cu", ".md")):
        text = (ROOT / path).read_text(encoding="utf-8")
        found += unwanted([(1, text)], path)
        if not path.endswith(".md"):
            for pattern, instead in NAMES.items():
                for match in re.finditer(rf"\b(?:{pattern})\b", text):
                    if match[0] not in {*ALLOWED, "Regions"}:  # a shape function of RoIAlign
                        found.append(f"{path}: {match[0]}, use: {instead}")
    assert not found, "\n".join(found)


def test_what_is_unwanted_is_found():
    text = "The number of them that\nare meant.\nThere is no other, it is no model"
    assert unwanted([(1, text)], "x") == [
        "x:2: 'are meant', use: are valid (num_valid)",
        "x:3: 'is no model', use: is not a",
    ]
