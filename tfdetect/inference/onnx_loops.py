"""Loops of ONNX models as OpenVINO reads them."""

from __future__ import annotations

from typing import Any


def separate_loop_outputs(graph: Any) -> None:
    """Give the bodies of loops outputs that are none of their inputs, with Identity between them.

    tf2onnx hands on what a loop does not change as it is. ONNX allows that; OpenVINO 2026 takes
    such an input for another one of the body's, and rejects the loop.

    Args:
        graph: an `onnx.GraphProto`, which is changed, with the graphs in it.
    """
    from onnx import AttributeProto, helper

    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type != AttributeProto.GRAPH:
                continue
            body = attribute.g
            separate_loop_outputs(body)
            inputs = {value.name for value in body.input}
            for index, output in enumerate(body.output):
                if output.name in inputs:
                    copy = f"{output.name}_output_{index}"
                    body.node.append(helper.make_node("Identity", [output.name], [copy], copy))
                    output.name = copy
