"""What is done to the loops of ONNX files, of a small one."""

from __future__ import annotations

import numpy as np
import pytest

from tfdetect.inference.onnx_loops import separate_loop_outputs

onnx = pytest.importorskip("onnx", reason="the extra tfdetect[onnx] is not installed")
reference = pytest.importorskip("onnx.reference")


def loop_around(nodes, level):
    """A loop that adds `step`, which it hands on as it is, to `total`, with `nodes` in it."""
    of = onnx.helper.make_tensor_value_info
    scalar, flag = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
    names = {name: f"{name}_{level}" for name in ("turn", "go", "total", "step", "sum")}
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", [names["total"], names["step"]], [names["sum"]]), *nodes],
        "body",
        [
            of(names["turn"], onnx.TensorProto.INT64, []),
            of(names["go"], flag, []),
            of(names["total"], scalar, []),
            of(names["step"], scalar, []),
        ],
        [of(names["go"], flag, []), of(names["sum"], scalar, []), of(names["step"], scalar, [])],
    )
    outputs = [f"last_total_{level}", f"last_step_{level}"]
    return onnx.helper.make_node("Loop", ["count", "yes", "zero", "one"], outputs, body=body)


def test_nested_loops():
    node = loop_around([loop_around([], 1)], 0)
    of = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "graph",
        [
            of("count", onnx.TensorProto.INT64, []),
            of("yes", onnx.TensorProto.BOOL, []),
            of("zero", onnx.TensorProto.FLOAT, []),
            of("one", onnx.TensorProto.FLOAT, []),
        ],
        [of(name, onnx.TensorProto.FLOAT, []) for name in node.output],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])

    def run():
        evaluator = reference.ReferenceEvaluator(model)
        given = {"count": 3, "yes": True, "zero": np.float32(0), "one": np.float32(1)}
        return [
            float(value)
            for value in evaluator.run(None, {k: np.array(v) for k, v in given.items()})
        ]

    def bodies(graph):
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    yield attribute.g
                    yield from bodies(attribute.g)

    separate_loop_outputs(model.graph)
    onnx.checker.check_model(model)
    found = list(bodies(model.graph))
    assert len(found) == 2
    for body in found:
        assert not {value.name for value in body.input} & {value.name for value in body.output}
    assert run() == [3.0, 1.0]
