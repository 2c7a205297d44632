"""LiteRT files in LiteRT's own interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

# XNNPACK's kernels where there are some, as by default, and LiteRT's own alone, which take fewer
# shapes; a device may have no others.
KERNELS = {
    "default": tf.lite.experimental.OpResolverType.AUTO,
    "own": tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def interpreter(content: bytes, kernels: str) -> tf.lite.Interpreter:
    """Of a file's content, with KERNELS of this name.

    With its own kernels, TensorFlow 2.21's interpreter gives two tensors of an MViT the same memory
    while both are needed; every tensor has its own here.
    """
    with pytest.warns(UserWarning, match="LiteRT"):  # where the interpreter is moving to
        return tf.lite.Interpreter(
            model_content=content,
            experimental_op_resolver_type=KERNELS[kernels],
            experimental_preserve_all_tensors=kernels == "own",
        )


def runners(content: bytes) -> list[Callable[..., dict[str, Any]]]:
    """What runs the file's signature, with each of KERNELS; no operator of it is TensorFlow's."""
    found = []
    for kernels in KERNELS:
        made = interpreter(content, kernels)
        assert not any(op["op_name"].startswith("Flex") for op in made._get_ops_details())
        found.append(made.get_signature_runner("serving_default"))
    return found
