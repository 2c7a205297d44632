"""The configurations that come with the package: Detectron2's model zoo."""

from __future__ import annotations

import difflib
import os
from functools import cache
from importlib.resources import files
from pathlib import Path

from tfdetect.errors import InputError

# In a checkout a link to the top-level configs/.
CONFIGS = Path(str(files("tfdetect") / "configs"))

_SUFFIX = ".yaml"
_MOST = 3


@cache
def zoo_models() -> tuple[str, ...]:
    """The names of the zoo's models, such as "COCO-Detection/retinanet_R_50_FPN_1x"."""
    paths = (p for p in sorted(CONFIGS.rglob(f"*{_SUFFIX}")) if not p.name.startswith("Base-"))
    return tuple(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in paths)


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
