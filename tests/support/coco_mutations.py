"""Random damage to a COCO file, of the kinds that tools, people and disks do."""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

from tests.support.paths import DEMO

IMAGES = 3
"""Of the demo's, that the files are of."""

# What stands where something else is expected. (A new one each time: they are put into lists.)
_VALUES = (
    *(None, True, False, 0, 1, -1, 2, 7, 12.0, 0.5, -0.0, 1e9, -1e12, 1e300, 10**30, 2**63),
    *(math.nan, math.inf, -math.inf, "", " ", "0", "1", "12", "12.0", "-3", "1e5", "NaN", "null"),
    *("text", "a\\b.jpg", "/nowhere/x.jpg", "\ud800", "a\0b", "line\nbreak", "\u00e9\u6f22"),
    *([], {}, [[]], [None], [0], ["x"], [1, 2], [1, 2, 3, 4], ["1", "2", "3", "4"], [[1, 2, 3, 4]]),
    *([1, 2, 3, 4, 5, 6], [[1, 2], [3, 4], [5, 6]], [[[1, 2], [3, 4], [5, 6]]], [[1, 2, 3, 4, 5]]),
    *(
        [[1e9, 0, 0, 1e9, 5, 5]],
        [[math.nan] * 6],
        {"size": [9, 9], "counts": [81]},
        {"counts": "a"},
    ),
    *({"size": [212, 327], "counts": "~~~"}, {"size": [212, 327], "counts": [69324]}),
    *({"size": [212, 327], "counts": [-1, 69325]}, {"size": None, "counts": None}, [0] * 51),
)


def small_file() -> dict[str, Any]:
    """The demo's first images with what is in them, and another form of mask and of crowd."""
    root = json.loads((DEMO / "annotations.json").read_text())
    root["images"] = root["images"][:IMAGES]
    listed = {image["id"]: image for image in root["images"]}
    root["annotations"] = [a for a in root["annotations"] if a["image_id"] in listed]
    for entry in root["annotations"]:
        # As a rectangle, which is as good for this and shorter.
        x, y, width, height = entry["bbox"]
        right, bottom = x + width, y + height
        entry["segmentation"] = [[x, y, right, y, right, bottom, x, bottom]]
    crowd = root["annotations"][-1]
    image = listed[crowd["image_id"]]
    size = [image["height"], image["width"]]
    crowd |= {"iscrowd": 1, "segmentation": {"size": size, "counts": [9, size[0] * size[1] - 9]}}
    return root


def mutate(root: dict[str, Any], seed: int) -> bytes:
    """`root` as a file with one to three faults; the same seed gives the same."""
    chance = random.Random(seed)
    root = copy.deepcopy(root)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _damage(root, chance)
    content = json.dumps(root, ensure_ascii=chance.random() < 0.9).encode("utf-8", "surrogatepass")
    kind = chance.random()
    if kind < 0.02:
        return content[: chance.randrange(len(content))]
    if kind < 0.04:
        place = chance.randrange(len(content))
        return content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
    if kind < 0.06:
        return b"\xef\xbb\xbf" + content
    if kind < 0.08:
        return content.decode("utf-8", "replace").encode("utf-16")
    return content


def _damage(root: dict[str, Any], chance: random.Random) -> None:
    parent, key = _place(root, chance)
    kind = chance.random()
    if kind < 0.15:
        del parent[key]
    elif kind < 0.2 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif kind < 0.25 and isinstance(parent, dict):
        parent[f"{key}s"] = parent.pop(key)
    elif kind < 0.35 and isinstance(parent[key], (int, float)):
        parent[key] = chance.choice((str(parent[key]), float(parent[key]), -parent[key]))
    elif kind < 0.42 and isinstance(parent[key], list) and parent[key]:
        parent[key] = chance.choice((parent[key][0], [parent[key]], parent[key][:-1]))
    else:
        parent[key] = copy.deepcopy(chance.choice(_VALUES))


def _place(root: dict[str, Any], chance: random.Random) -> tuple[Any, Any]:
    """A container within `root` and a key of it, at a random depth; annotations most often."""
    lists = [key for key in ("images", "categories", "annotations") if root.get(key)]
    lists += ["annotations"] * 2 if "annotations" in lists else []
    if not lists or chance.random() < 0.03:
        root.setdefault("categories", None)
        return root, chance.choice(sorted(root))
    parent: Any = root
    key: Any = chance.choice(lists)
    while True:
        child = parent[key]
        if not isinstance(child, (list, dict)) or not child:
            return parent, key
        # An entry as a whole now and then, mostly one of its fields, at times what is in these.
        depth = 1 if parent is root else 0.75
        if chance.random() > depth:
            return parent, key
        parent = child
        key = (
            chance.randrange(len(child))
            if isinstance(child, list)
            else chance.choice(sorted(child))
        )
