"""The YAML of LazyConfig is read as data: what it says, and that nothing in it runs."""

from __future__ import annotations

import time

import pytest

from convert_d2.lazy_config.arguments import canonical
from convert_d2.lazy_config.inert import Tagged, parse
from convert_d2.lazy_config.interpolation import Name, Partial, resolve
from tests.support.lazy_configs import (
    NAMES,
    as_resolved,
    as_structure,
    changed,
    recorded,
    text_of,
)
from tfdetect.config.source import is_lazy
from tfdetect.errors import InputError


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        resolve(parse(text, "x.yaml"), "x.yaml")
    message = str(caught.value)
    assert message.startswith("x.yaml: ")
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_there_are_eleven():
    assert len(NAMES) == 11
    assert set(NAMES) == set(recorded("contents")) == set(recorded("state_dicts"))


@pytest.mark.parametrize("name", NAMES)
def test_structure(name):
    assert is_lazy(text_of(name))
    assert as_structure(parse(text_of(name), name)) == recorded("contents")[name]["structure"]


@pytest.mark.parametrize("name", NAMES)
def test_resolved_model(name):
    model = resolve(parse(text_of(name), name), name)["model"]
    expected = recorded("contents")[name]["resolved_model"]
    assert as_resolved(model) == as_resolved(expected)


def test_classes_have_the_module_that_defines_them():
    """The record has them as Python's objects call themselves, the file by the shortest name."""

    def targets(value):
        if isinstance(value, dict):
            found = [value["_target_"]] if "_target_" in value else []
            return found + [target for entry in value.values() for target in targets(entry)]
        return (
            [target for entry in value for target in targets(entry)]
            if isinstance(value, list)
            else []
        )

    for name in NAMES:
        for target in targets(recorded("contents")[name]["resolved_model"]):
            # A dataclass is recorded as the text that the file has.
            if not target.endswith(".ShapeSpec"):
                assert canonical(target) == target
    assert canonical("detectron2.modeling.FPN") == "detectron2.modeling.backbone.fpn.FPN"
    assert canonical("os.system") == "os.system"


def test_values_with_tags():
    text = """
a: !!python/tuple [1, [2, '3']]
b: !!python/name:torch.nn.modules.normalization.LayerNorm ''
c: !!python/object/apply:functools.partial
  args: [&f !!python/name:a.b.C '']
  state: !!python/tuple [*f, !!python/tuple [], {eps: 1.0e-06}, null]
d: !<tag:yaml.org,2002:python/name:x.y> ''
"""
    root = parse(text, "x")
    assert root["a"] == Tagged("python/tuple", [1, [2, "3"]])
    assert resolve(root, "x") == {
        "a": [1, [2, "3"]],
        "b": Name("torch.nn.modules.normalization.LayerNorm"),
        "c": Partial("a.b.C", [], {"eps": 1e-6}),
        "d": Name("x.y"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: ${a}\n", {"a": 1, "b": 1}),
        ("a: {x: 5, y: '${.x}'}", {"a": {"x": 5, "y": 5}}),
        ("a: {x: 5, b: {y: '${..x}'}}", {"a": {"x": 5, "b": {"y": 5}}}),
        # A list is a level too.
        ("a: {x: 5, b: [{y: '${...x}'}, '${..x}']}", {"a": {"x": 5, "b": [{"y": 5}, 5]}}),
        ("a: [1, 2]\nb: ${a[1]}\nc: ${a.0}\nd: '${a[-1]}'", {"a": [1, 2], "b": 2, "c": 1, "d": 2}),
        # Relative ones in what is referred to are relative to where they are written.
        (
            "a: {x: 1, y: '${.x}'}\nb: {x: 2, z: '${a}'}",
            {"a": {"x": 1, "y": 1}, "b": {"x": 2, "z": {"x": 1, "y": 1}}},
        ),
        ("a: ${b.c}\nb: ${d}\nd: {c: 7}", {"a": 7, "b": {"c": 7}, "d": {"c": 7}}),
        ("a: 3\nb: n${a}-${a}.yaml", {"a": 3, "b": "n3-3.yaml"}),
        ("a: 3\nb: '\\${a}'", {"a": 3, "b": "\\${a}"[1:]}),
        ("a: !!python/tuple ['${b}']\nb: 2", {"a": [2], "b": 2}),
        ("a: {5: x, b: '${.5}'}", {"a": {5: "x", "b": "x"}}),
    ],
)
def test_interpolations(text, expected):
    assert resolve(parse(text, "x"), "x") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: ${b}", "a: ${b}: there is no b"),
        ("a: {b: '${.c.d}'}", "a.b: ${.c.d}: there is no c in a"),
        ("a: {b: '${....c}'}", "a.b: ${....c} leads out of the file"),
        ("a: ${a}", "a: an interpolation here refers back to itself"),
        ("a: ${b}\nb: ${c}\nc: x${a}", "refers back to itself"),
        ("a: {b: '${a}'}", "refers back to itself"),
        ("a: ${a.b}", "refers back to itself"),
        ("a: ${oc.env:HOME}", "a: ${oc.env:HOME} calls a resolver, which is not run"),
        ("a: ${b.${c}}", "a: an interpolation that is not closed, or within another"),
        ("a: n${b", "a: an interpolation that is not closed, or within another"),
        ("a: ${}", "a: ${} is not an interpolation"),
        ("a: [1]\nb: ${a[1]}", "b: ${a[1]}: there is no 1 in a"),
        ("a: {x: 1}\nb: n${a}", "b: ${a} within a text is not a text or number"),
        ("a: 5\nb: ${a.x}", "there is no x in a"),
    ],
)
def test_interpolations_to_nowhere(text, expected):
    assert expected in refusal(text)


PYTHON = "is rejected, because Python would run code for it"
REJECTED = [
    ("a: !!python/object/apply:os.system ['touch executed']", PYTHON),
    ("a: !!python/object/new:os.system ['touch executed']", PYTHON),
    ("a: !!python/object:os.system {}", PYTHON),
    ("a: !!python/module:os ''", PYTHON),
    ("a: !<tag:yaml.org,2002:python/object/apply:os.system> ['touch executed']", PYTHON),
    (
        "%TAG !x! tag:yaml.org,2002:python/object/apply:\n---\na: !x!os.system ['touch executed']",
        PYTHON,
    ),
    (
        "%TAG ! tag:yaml.org,2002:python/object/apply:\n---\na: !os.system ['touch executed']",
        PYTHON,
    ),
    ("a: !!python/%6fbject/apply:os.system ['touch executed']", PYTHON),
    ("a: !!python/object/apply:functools.partial [os.system]", PYTHON),
    (
        "a: !!python/object/apply:functools.partial {args: [x]}",
        "is not a functools.partial as PyYAML writes it",
    ),
    ("a: !!python/name:os.system x", "text after !!python/name:os.system"),
    ("? !!python/object/apply:os.system [x]\n: 1", PYTHON),
    ("a: {<<: {b: 1}}", "a merge key"),
    ("a: {<<: [{b: 1}, {c: 1}]}", "a merge key"),
    ("a: 1\na: 2", "line 2: the key a is given twice"),
    ("a: {b: 1, 'b': 2}", "the key b is given twice"),
    ("? [1, 2]\n: 3", "a key is neither text nor a number"),
    ("a: *b", "the alias *b refers to nothing"),
    ("a: &b [1, *b]", "the alias *b contains itself"),
    ("a: &b {c: {d: *b}}", "the alias *b contains itself"),
    ("a: " + "[" * 5000, "more than 64 levels deep"),
    ("\n".join(" " * depth + "a:" for depth in range(900)), "more than 64 levels deep"),
    ("a: " + "- " * 500, "not YAML"),
    ("a: " + "9" * 5000, "is not a int"),
    ("a: 0x" + "f" * 5000, "is not a int"),
    ("a: " + "1:" * 40000 + "1", "is not a int"),
    ("a: 1\0", "not YAML"),
    ("a: 2001-01-01", "the tag !!timestamp is not supported"),
    ("a: !!binary aGk=", "the tag !!binary is not supported"),
    ("a: !mine 5", "the tag !mine is not supported"),
    ("a: 1\n---\na: 2", "line 2: a second document begins"),
    ("[1, 2]", "is not a mapping"),
    ("", "is not a mapping"),
    ("a: !!int x", "x is not a int"),
    ("a: !!int ''", "is not a int"),
    ("a: [1\n", "not YAML"),
    ("a: " + "[" + "1, " * 20_100 + "]", "more than 20000 values"),
    ("a: &x [1]\nb: [" + "*x, " * 1001 + "]", "more than 1000 aliases"),
]


@pytest.mark.parametrize(("text", "expected"), REJECTED, ids=range(len(REJECTED)))
def test_rejected(text, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.perf_counter()
    assert expected in refusal(text)
    assert time.perf_counter() - start < 20  # it takes at most some seconds
    assert not list(tmp_path.iterdir())


def test_bombs():
    """A few lines that mean a thousand million values, by aliases and by interpolations."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "more than 20000 values" in refusal("\n".join(lines))
    lines = ["a0: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [
        f"a{i}: [{', '.join([f'${{a{i - 1}}}'] * 10)}]".replace("$", "'$").replace("}", "}'")
        for i in range(1, 10)
    ]
    assert "is more than 20000 values" in refusal("\n".join(lines))
    lines = ["a0: " + "x" * 100] + [f"a{i}: ${{a{i - 1}}}${{a{i - 1}}}" for i in range(1, 40)]
    assert "more than 10000 characters" in refusal("\n".join(lines))
    lines = ["a0: 1"] + [f"a{i}: ${{a{i - 1}}}" for i in range(1, 5000)]
    assert "refer to each other too often" in refusal("\n".join(reversed(lines)))


def test_a_name_is_only_a_name():
    text = changed(
        "mask_rcnn_R_50_C4_1x", ("python/name:detectron2", "python/name:this.is.no.module")
    )
    assert resolve(parse(text, "x"), "x")["model"]["roi_heads"]["res5"]["block_class"] == Name(
        "this.is.no.module.modeling.backbone.resnet.BottleneckBlock"
    )


@pytest.mark.parametrize(
    ("text", "lazy"),
    [
        ("model: {_target_: x}", True),
        ('{"train": {}, "model": {"_target_": "x"}}', True),
        ("constants: {a: 1}\nmodel: {_target_: x}", True),
        ("MODEL: {A: 1}\nmodel: {_target_: x}", False),
        ("MODEL: {model: {_target_: x}}", False),
        ("model: {a: x}", False),
        ("- model: {_target_: x}", False),
        ("_target_: [", False),
    ],
)
def test_is_lazy(text, lazy):
    assert is_lazy(text) == lazy
