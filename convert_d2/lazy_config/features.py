"""Feature maps of a LazyConfig's backbone, and what refers to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convert_d2.lazy_config.arguments import (
    Arguments,
    Feature,
    converts,
    is_integer,
    plain,
    show,
)

BACKBONE, SHAPE = "a backbone", "a ShapeSpec"


@dataclass(frozen=True)
class Body:
    """A converted backbone.

    Attributes:
        kind: of the layers: "resnet", "regnet", "vit", "swin", "mvit"; "fpn" or "simple" of a
            pyramid.
        features: channels and stride by name.
    """

    kind: str
    features: dict[str, Feature]


@converts("detectron2.layers.shape_spec.ShapeSpec", SHAPE)
def _shape_spec(args: Arguments) -> dict[str, int | None]:
    def optional(name: str) -> int | None:
        value: int | None = args.of_type(
            name, None, lambda value: value is None or is_integer(value), "an integer"
        )
        return value

    return {name: optional(name) for name in ("channels", "height", "width", "stride")}


def expect_features(
    args: Arguments, name: str, features: dict[str, Feature], names: list[str]
) -> list[Feature]:
    """The features of an `in_features`."""
    for feature in names:
        if feature not in features:
            raise args.error(
                name, f"the backbone has no {show(feature)}, only {', '.join(features)}"
            )
    if not names:
        raise args.error(name, f"is empty; give some of {', '.join(features)}")
    return [features[feature] for feature in names]


def expect_channels(
    args: Arguments, name: str, shape: dict[str, int | None], channels: Any
) -> None:
    """Compare an `input_shape` with what the layer before it gives."""
    if channels is not None and plain(shape["channels"]) != plain(channels):
        raise args.error(
            name, f"has channels {shape['channels']}, but the layer before has {channels}"
        )
