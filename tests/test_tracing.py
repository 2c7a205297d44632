"""Every tf.function of the library and of its tests says whether AutoGraph rewrites what it traces.

Nothing here has Python control flow over tensors, and rewriting all of a model's code takes longer
than tracing it: 20 s instead of 3 for the losses of a narrow Mask R-CNN.
"""

from __future__ import annotations

import ast

from tests.support.paths import ROOT


def silent(source: str) -> list[int]:
    """The lines of tf.functions that do not say it."""
    nodes = list(ast.walk(ast.parse(source)))
    calls = {id(node.func): node for node in nodes if isinstance(node, ast.Call)}
    lines = []
    for node in nodes:
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "tf.function":
            call = calls.get(id(node))
            if call is None or "autograph" not in {keyword.arg for keyword in call.keywords}:
                lines.append(node.lineno)
    return lines


def test_autograph_is_chosen():
    assert silent("@tf.function\ndef f(x): ...\ntf.function(f)") == [1, 3]
    assert not silent("@tf.function(autograph=False)\ndef f(x): ...")
    files = [path for folder in ("tfdetect", "tests") for path in (ROOT / folder).rglob("*.py")]
    sources = {path: path.read_text("utf-8") for path in files}
    with_functions = {path: source for path, source in sources.items() if "tf.function" in source}
    assert len(with_functions) > 20
    found = [f"{path}:{line}" for path, source in with_functions.items() for line in silent(source)]
    assert not found, "give each autograph=False"
