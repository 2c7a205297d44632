"""Detectron2's model zoo: its configurations, which come with the package, and published models."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tfdetect.errors import InputError

# In a checkout a link to the top-level configs/.
CONFIGS = Path(str(files("tfdetect") / "configs"))

# Model ids, file names and AP, from Detectron2's model_zoo.py, MODEL_ZOO.md and projects' pages.
_PUBLISHED = Path(__file__).with_name("zoo_published.json")

_SUFFIX = ".yaml"
_MOST = 3


@cache
def zoo_models() -> tuple[str, ...]:
    """The names of the zoo's models, such as "COCO-Detection/retinanet_R_50_FPN_1x"."""
    paths = (p for p in sorted(CONFIGS.rglob(f"*{_SUFFIX}")) if not p.name.startswith("Base-"))
    return tuple(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in paths)


@dataclass(frozen=True)
class PublishedModel:
    """A model of the zoo whose weights can be downloaded.

    Attributes:
        name: in the zoo.
        model_id: Detectron2's number of it.
        file: the file's name; of some models with the folders on the server.
        ap: what is published, in percent: "box", "mask" and "keypoint" (AP), "box50", "PQ",
            "mIoU", "AR@1000".
    """

    name: str
    model_id: str
    file: str
    ap: dict[str, float]

    @property
    def config(self) -> Path:
        """Its configuration, of the package, whatever has this name in the current folder."""
        return CONFIGS / f"{self.name}{_SUFFIX}"

    @property
    def address(self) -> str:
        """Where the weights are, in Detectron2's scheme "detectron2://"."""
        path = self.file if "/" in self.file else f"{self.name}/{self.model_id}/{self.file}"
        return f"detectron2://{path}"


def published_model(name: str) -> PublishedModel | None:
    """What is published of a model of the zoo; None if there are no weights of it."""
    facts = _published().get(name)
    return None if facts is None else PublishedModel(name, **facts)


@cache
def _published() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(_PUBLISHED.read_text("utf-8"))
    return found


def find_published(name: str, key: str) -> PublishedModel:
    """A model of the zoo by its name, with .yaml or without.

    Args:
        name: such as "COCO-Detection/retinanet_R_50_FPN_1x".
        key: the option that gives it, for messages.

    Raises:
        InputError: the zoo has no such model, or no weights of it are published.
    """
    name = name.removesuffix(_SUFFIX)
    found = published_model(name)
    if found is not None:
        return found
    if name in zoo_models():
        raise InputError(
            f"{key} {name}: no weights of this model are published; train it, or give weights of "
            "your own with --config-file and --weights"
        )
    raise InputError(f"{key} {name}: no such model in the zoo{_near(name)}")


def find_config(path: str | os.PathLike[str]) -> Path:
    """The file of a configuration that is given by its path, or by its name in the zoo.

    Args:
        path: a file, or a name such as "COCO-Detection/retinanet_R_50_FPN_1x", with .yaml or
            without (Detectron2: `model_zoo.get_config_file`). A file goes before a name.

    Raises:
        InputError: there is neither.
    """
    given = Path(path).expanduser()
    if os.path.lexists(given):
        return given
    name = given.as_posix().removesuffix(_SUFFIX)
    known = CONFIGS / f"{name}{_SUFFIX}"
    if not given.is_absolute() and ".." not in given.parts and known.is_file():
        return known
    raise InputError(f"{path}: No such file, and no such model in the zoo{_near(name)}")


def _near(name: str) -> str:
    """The models of a similar name, with or without the folder."""
    whole = {model.lower(): model for model in zoo_models()}
    last = {model.rpartition("/")[2]: model for model in whole}
    found = [last[part] for part in _close(name.rpartition("/")[2], last)]
    if "/" in name:
        found = [*_close(name, whole), *found]
    nearest = list(dict.fromkeys(whole[model] for model in found))[:_MOST]
    return f"; the nearest there: {', '.join(nearest)}" if nearest else ""


def _close(text: str, names: dict[str, str]) -> list[str]:
    return difflib.get_close_matches(text.lower(), names, n=_MOST, cutoff=0.8)
