"""Finds the model's weights among the mappings in a checkpoint."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfdetect.checkpoint.formats.numpy_objects import Array
from tfdetect.checkpoint.formats.objects import Placeholder, type_name
from tfdetect.checkpoint.formats.torch_objects import Tensor
from tfdetect.errors import InputError

RESAVE = "re-save it with PyTorch: torch.save(model.state_dict(), NEW_FILE)"

# Trainers' names for the weights, in order of precedence: Detectron2, Detectron, and the rest.
# The first few are always the weights; in the others, the names have to look like weights.
_CERTAIN = ("model", "blobs", "state_dict", "model_state_dict", "model_state", "model_weights")
_CONTAINERS = (
    *_CERTAIN,
    *("net", "network", "net_state_dict", "weights", "params", "parameters", "module", "detector"),
    *("student", "generator", "checkpoint", "best_model", "best_state_dict", "state"),
)
# Averages of the weights over the training, which come after the weights themselves.
AVERAGE = re.compile(
    r"(?:^|[^a-z])ema(?:[^a-z]|$)|Ema|EMA|(?:^|[^a-z])swa(?:[^a-z]|$)|SWA"
    r"|[aA]verag|[sS]hadow|[tT]eacher|[mM]omentum"
)
_NOT_WEIGHTS = re.compile(
    r"optim|sched|scaler|momentum_buffer|rng|metric|history|callback|loop|hyper|criterion|loss",
    re.IGNORECASE,
)
_WEIGHT = re.compile(r".*([./](weight|bias|running_mean|running_var|W|b|gamma|beta)(:0)?|_[wb])")
_MAX_DEPTH = 3
# Names of modules within modules are made here, so that a short file could ask for long ones.
_MAX_NAME = 1000
_MAX_NAMES = 1 << 26  # characters of all of them, and some for each


@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint, not read yet.

    Attributes:
        values: by name.
        container: where they lie, such as "state_dict" or "checkpoint.model"; "" for the top.
        author: the origin according to the file.
        ignored: the names of everything else in the file.
        others: further places that hold weights, such as "model_ema", and were not used.
    """

    values: dict[str, Array | Tensor]
    container: str
    author: str | None
    ignored: tuple[str, ...]
    others: tuple[str, ...]


def find_weights(source: str, root: Any) -> Weights:
    """Find the weights: under "model" as Detectron2 has them, under "blobs" as Detectron has them,
    in another container of a known name, or at the top.

    Args:
        source: the file, for errors.
        root: what its pickle holds.

    Raises:
        InputError: it holds no weights, or something else where a weight should be.
    """
    mapping = _mapping(source, root)
    if isinstance(root, Placeholder) and root.reason:
        raise InputError(f"{source}: {root.reason}")
    if mapping is None:
        raise InputError(f"{source}: holds a {type_name(root)}, not arrays by name; {RESAVE}")
    author = mapping.pop("__author__", None)
    candidates = sorted(_candidates(source, mapping), key=lambda candidate: candidate[0])
    if not candidates:
        found = ", ".join(list(mapping)[:5])[:100] or "nothing"
        raise InputError(
            f"{source}: holds no arrays, under 'model' or at the top level (found: {found}); "
            "give a Detectron2 checkpoint"
        )
    (_, container, chosen), *rest = candidates
    others = tuple(name for _, name, other in rest if name and _looks_like_weights(other))
    values = dict(_values(source, container, chosen))
    if not values:
        reasons = (x.reason for x in chosen.values() if isinstance(x, (Array, Placeholder)))
        reason = next(filter(None, reasons), "there are none")
        raise InputError(f"{source}: holds no arrays that can be read: {reason}")
    first = container.partition(".")[0]
    ignored = tuple(name for name in mapping if name not in ([first] if first else values))
    said = text(author) if isinstance(author, (str, bytes)) else None
    return Weights(values, container, said, ignored, others)


def _candidates(
    source: str, root: dict[str, Any]
) -> Iterator[tuple[tuple[int, int, int], str, dict[str, Any]]]:
    """(rank, path, mapping) of every mapping that may be the weights; the lowest rank is taken."""
    ahead: deque[tuple[tuple[str, ...], dict[str, Any]]] = deque([((), root)])
    seen: set[int] = set()
    while ahead:
        path, mapping = ahead.popleft()
        name = path[-1] if path else ""
        inner = {}
        if len(path) < _MAX_DEPTH:
            for key, value in mapping.items():
                if not isinstance(value, (dict, Placeholder)) or _NOT_WEIGHTS.search(key):
                    continue
                if id(value) not in seen and (found := _mapping("", value)):
                    inner[key] = found
                seen.add(id(value))
        ahead += [((*path, key), value) for key, value in inner.items()]
        average = any(AVERAGE.search(part) for part in path)
        known = _CONTAINERS.index(name) if name in _CONTAINERS else len(_CONTAINERS)
        arrays = any(map(_is_array, mapping.values()))
        weights = _looks_like_weights(mapping)
        if path and (weights or (name in _CERTAIN and (arrays or (mapping and not inner)))):
            yield (int(average), known, len(path)), ".".join(path), mapping
        elif not path and arrays:
            # After containers of known names; without names of weights, after all.
            yield (0 if weights else 2, len(_CONTAINERS), 0), "", mapping


def _looks_like_weights(mapping: dict[str, Any]) -> bool:
    return any(_is_array(value) and _WEIGHT.fullmatch(name) for name, value in mapping.items())


def _is_array(value: Any) -> bool:
    """Whether it is an array or a tensor, be it one that cannot be read."""
    return isinstance(value, (Array, Tensor)) or (
        isinstance(value, Placeholder) and value.reason is not None
    )


def _values(
    source: str, container: str, mapping: dict[str, Any]
) -> Iterator[tuple[str, Array | Tensor]]:
    """The arrays of the container.

    Everything in it has to be one but numbers and a few extras; at the top, everything whose name
    is that of a weight.
    """
    for name, value in mapping.items():
        reason = value.reason if isinstance(value, (Array, Placeholder)) else None
        if isinstance(value, (Array, Tensor)) and not reason:
            yield name, value
            continue
        where = f"{container}.{name}" if container else name
        if reason and (container or re.search("[./]", name) or _WEIGHT.fullmatch(name)):
            raise InputError(f"{source}: {where} cannot be read: {reason}")
        # (torch modules store anything that is not a tensor as _extra_state.)
        extra = name.endswith(("_extra_state", "_metadata"))
        if container and not extra and not isinstance(value, (int, float, type(None))):
            raise InputError(
                f"{source}: {where} is a {type_name(value)}, not an array; save the weights alone"
            )


def _mapping(source: str, value: Any) -> dict[str, Any] | None:
    """Named values: of a dictionary or a class derived from it, a module's weights, or an object's
    attributes. None for anything else.

    With a source, keys that are not text are an error; without one, the mapping is None.
    """
    if isinstance(value, Placeholder):
        if isinstance(value.state.get("_modules"), (dict, Placeholder)):
            return _state_dict(value)
        value = value.entries or value.state or None
    if not isinstance(value, dict):
        return None
    for key in value:
        if not isinstance(key, (str, bytes)) or len(key) > _MAX_NAME:
            if not source:
                return None
            kind = "overlong" if isinstance(key, (str, bytes)) else type_name(key)
            raise InputError(f"{source}: has {kind} keys instead of names; {RESAVE}")
    # Python 2 wrote bytes.
    return {text(key): item for key, item in value.items()}


def _state_dict(module: Placeholder) -> dict[str, Any]:
    """`torch.nn.Module.state_dict()` of a module that was pickled whole."""
    result: dict[str, Any] = {}
    ahead: list[tuple[str, Any]] = [("", module)]
    spent = 0
    while ahead:
        prefix, current = ahead.pop()
        if not isinstance(current, Placeholder):
            continue
        modules = _entries(current.state.get("_modules"))
        weights = _entries(current.state.get("_parameters"))
        weights += _entries(current.state.get("_buffers"))
        # A module may stand under several names, and in a hostile file within itself.
        spent += sum(len(prefix) + len(name) + 16 for name, _ in (*modules, *weights))
        if spent > _MAX_NAMES or len(prefix) > _MAX_NAME:
            return {}
        transient = current.state.get("_non_persistent_buffers_set")
        left_out = set()
        if isinstance(transient, list):  # sets are lists here
            left_out = {name for name in transient if isinstance(name, str)}
        for name, value in weights:
            if value is not None and name not in left_out:
                result[prefix + name] = value
        ahead += [(f"{prefix}{name}.", child) for name, child in reversed(modules)]
    return result


def _entries(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Placeholder):
        value = value.entries
    if not isinstance(value, dict):
        return []
    return [
        (text(name), item)
        for name, item in value.items()
        if isinstance(name, (str, bytes)) and len(name) <= _MAX_NAME
    ]


def text(value: str | bytes) -> str:
    """Make one line of text that can be written as UTF-8."""
    decoded = value.decode("latin-1") if isinstance(value, bytes) else value
    return " ".join(decoded.encode("utf-8", "replace").decode("utf-8").split())
