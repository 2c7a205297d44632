"""Conditions on the values of a configuration, and the messages that name a value without them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from yacs.config import CfgNode

from tfdetect.errors import InputError

# Of a backbone; the deepest published one has 80. More would take hours, or all memory, to refuse.
MOST_BLOCKS = 1000
# None is a value of these: WEIGHT_DECAY's and a factor of 1, no file, COCO's sigmas. (And of NORM:
# none.)
_NULLABLE = (
    "SOLVER.WEIGHT_DECAY_NORM",
    "SOLVER.WEIGHT_DECAY_BIAS",
    "SOLVER.BIAS_LR_FACTOR",
    "MODEL.WEIGHTS",
    "TEST.KEYPOINT_OKS_SIGMAS",
)


class Rule(NamedTuple):
    """A condition on a value, and the end of a message that begins "give"."""

    holds: Callable[[Any], bool]
    expected: str


def at_least(least: float) -> Rule:
    return Rule(lambda value: least <= value < math.inf, f"{least:g} or more")


def between(least: float, most: float) -> Rule:
    return Rule(lambda value: least <= value <= most, f"a number from {least:g} to {most:g}")


def numbers(count: int, rule: Rule | None = None) -> Rule:
    def holds(value: Any) -> bool:
        numbers = isinstance(value, (list, tuple)) and all(is_number(entry) for entry in value)
        return numbers and len(value) == count and (rule is None or all(map(rule.holds, value)))

    return Rule(holds, f"{count} numbers" + (f", each {rule.expected}" if rule else ""))


def each(rule: Rule) -> Rule:
    return Rule(lambda value: all(map(rule.holds, value)), f"only {rule.expected}")


def differ(values: Sequence[Any]) -> bool:
    return len({repr(value) for value in values}) == len(values)


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


NOT_ZERO = Rule(lambda value: is_number(value) and value != 0, "not 0")
ABOVE_0 = Rule(lambda value: 0 < value < math.inf, "a number above 0")
BELOW_1 = Rule(lambda value: 0 <= value < 1, "a number from 0 to below 1")
FINITE = Rule(is_number, "a finite number")
NO_NAN = Rule(lambda value: not math.isnan(value), "a number")


def check_rules(cfg: CfgNode, rules: dict[str, Rule]) -> None:
    """Raise InputError for a value that its rule does not hold for; `rules` are by full key."""
    for key, rule in rules.items():
        value = cfg
        for part in key.split("."):
            value = value[part]
        if value is None:
            require_value(key, value)
        elif not rule.holds(value):
            raise InputError(f"{key}: is {value}; give {rule.expected}")


def require_values(section: str, node: CfgNode) -> None:
    """Raise InputError for a null in a section; one that is not ENABLED is not looked at."""
    for name, value in node.items():
        if not isinstance(value, CfgNode):
            require_value(f"{section}.{name}", value)
        elif value.get("ENABLED", True) is not False:
            require_values(f"{section}.{name}", value)


def require_value(key: str, value: Any) -> None:
    """Raise InputError for a null, unless it is a value of this key."""
    if value is None and key not in _NULLABLE and not key.endswith(".NORM"):
        raise InputError(f"{key}: is null, which has no meaning there; give a value")
