"""Which of a backbone's features a head takes."""

from __future__ import annotations

from collections.abc import Sequence

from tfdetect.errors import InputError

Shapes = dict[str, tuple[int, int]]
"""(channels, stride) of a backbone's features by name."""


def input_features(
    key: str, names: Sequence[str], shapes: Shapes, *, equal_channels: bool = True
) -> list[str]:
    """The features that the configuration names, which the backbone must have.

    Args:
        key: of the configuration, such as "MODEL.RPN.IN_FEATURES".
        names: its value.
        shapes: of the backbone's features.
        equal_channels: whether all of them must have as many channels.

    Raises:
        InputError: there are none, or the backbone lacks one, or they differ in their channels.
    """
    known = ", ".join(shapes)
    if not names:
        raise InputError(f"{key}: is empty; give some of {known}")
    for name in names:
        if name not in shapes:
            raise InputError(f"{key}: {name!r} is not a feature of the backbone ({known})")
    if equal_channels and len({shapes[name][0] for name in names}) > 1:
        raise InputError(
            f"{key}: {list(names)} differ in their channels; name one, or features of an FPN"
        )
    return list(names)
