"""The recorded files of LazyConfig, and what a test does to them."""

from __future__ import annotations

import gzip
import json
import random
import re
from functools import cache
from typing import Any

from convert_d2.lazy_config.arguments import canonical
from convert_d2.lazy_config.inert import Tagged
from convert_d2.lazy_config.interpolation import Name, Partial
from tests.support.paths import DATA

FOLDER = DATA / "lazy_configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
BASELINES = [name for name in NAMES if not name.startswith("vitdet")]


@cache
def recorded(file: str) -> Any:
    """`contents` or `state_dicts`, by the name of the configuration."""
    with gzip.open(FOLDER / f"{file}.json.gz", "rt") as stream:
        return json.load(stream)


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.yaml").read_text()


def changed(name: str, *changes: tuple[str, str]) -> str:
    """A file with pieces of text replaced, each of which it has."""
    text = text_of(name)
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def as_structure(value: Any) -> Any:
    """What `parse` gives, in the record's form."""
    if isinstance(value, Tagged):
        return {"tag": value.tag, "value": as_structure(value.value)}
    if isinstance(value, dict):
        return {key: as_structure(entry) for key, entry in value.items()}
    return [as_structure(entry) for entry in value] if isinstance(value, list) else value


def as_resolved(value: Any) -> Any:
    """What `resolve` gives, or the record, with classes by one name each.

    The record has a ShapeSpec's class only where it is a call and not an object.
    """
    if isinstance(value, Name):
        return canonical(value.name)
    if isinstance(value, Partial):
        return {"partial": value.function, "args": value.args, "keywords": value.keywords}
    if isinstance(value, list):
        return [as_resolved(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    found = {key: as_resolved(entry) for key, entry in value.items()}
    target = found.pop("_target_", None)
    if target is not None and not target.endswith(".ShapeSpec"):
        found["_target_"] = canonical(target)
    return found


_VALUES = (
    *("null", "true", "0", "-1", "7", "1.5", "1e400", ".nan", ".inf", "''", "text", "'???'", "[]"),
    *(
        "{}",
        "[[]]",
        "[1, 2]",
        "[a, b]",
        "{a: 1}",
        "9" * 400,
        "0x" + "f" * 90,
        "2001-01-01",
        "=",
        "~",
    ),
    *(
        "'${.x}'",
        "'${model}'",
        "'${..num_classes}'",
        "'${....}'",
        "'${oc.env:HOME}'",
        "'${'",
        "*id001",
    ),
    *("!!python/name:os.system ''", "!!python/object/apply:os.system ['touch executed']"),
    *("!!python/tuple [1, 2]", "!!python/object:detectron2.layers.shape_spec.ShapeSpec {}"),
    *("!!python/object/apply:functools.partial {args: [a], state: !!python/tuple [a, [], {}, 0]}",),
    *("!!binary aGk=", "!!set {a}", "!unknown x", "&a [*a]", "\x00", "\u2028", "'\\ud800'", "# x"),
    *(
        "{_target_: os.system, command: touch executed}",
        "{_target_: 5}",
        "{_target_: detectron2.modeling.FPN}",
    ),
    *("{_target_: detectron2.modeling.matcher.Matcher}", "[" * 200, "&z [1, 1]", "<<: {a: b}"),
)


def mutate(text: str, seed: int) -> bytes:
    """A file with one to three faults; the same seed gives the same."""
    chance = random.Random(seed)
    for _ in range(chance.choice((1, 1, 2, 3))):
        lines = text.splitlines()
        index = chance.randrange(len(lines))
        kind = chance.randrange(8)
        if kind == 0:
            del lines[index]
        elif kind == 1:
            lines.insert(index, lines[chance.randrange(len(lines))])
        elif kind == 2:
            lines[index] = " " * chance.randrange(9) + lines[index].lstrip()
        elif kind == 3:
            place = chance.randrange(len(lines[index]) + 1)
            lines[index] = (
                lines[index][:place]
                + chance.choice("{}[],:&*!#|>'\"%@`$\t\0é")
                + lines[index][place:]
            )
        elif kind == 4:
            del lines[index:]
        else:
            values = list(re.finditer(r"(?<=: )[^ ,{}\[\]]+", lines[index]))
            if values:
                match = chance.choice(values)
                new = chance.choice(_VALUES)
                lines[index] = lines[index][: match.start()] + new + lines[index][match.end() :]
        text = "\n".join(lines) + "\n"
    data = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.05:
        place = chance.randrange(len(data) + 1)
        data = data[:place] + bytes([chance.randrange(256)]) + data[place:]
    return data
