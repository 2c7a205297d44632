"""--import: what is run, and one line for what cannot be."""

from __future__ import annotations

import sys

import pytest

import tfdetect.cli.train
from tests.support.commands import fails
from tests.support.paths import DEMO
from tests.support.train_runs import CONFIG, command
from tfdetect.cli.imports import import_user_module
from tfdetect.errors import InputError


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """What is imported here is forgotten again."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("tfdetect_user_", "mine")):
            del sys.modules[name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_file_and_what_is_beside_it(tmp_path):
    write(tmp_path / "mine_beside.py", "VALUE = 3\n")
    # Its name may be a library's.
    path = write(tmp_path / "json.py", "from mine_beside import VALUE\nimport json\n")
    module = import_user_module(path)
    assert module.VALUE == 3
    assert module.json.dumps([]) == "[]"


def test_a_module_in_the_current_folder(tmp_path, monkeypatch):
    write(tmp_path / "mine" / "__init__.py", "")
    write(tmp_path / "mine" / "hooks.py", "VALUE = 4\n")
    monkeypatch.chdir(tmp_path)
    assert import_user_module("mine.hooks").VALUE == 4


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a = 1\nb = (\n", "line 2: "),
        ("a = 1\nb = unknown\n", "line 2: NameError: name 'unknown' is not defined"),
        ("import json\n\n\njson.loads('{')\n", "line 4: JSONDecodeError: "),
        ("def f():\n    raise ValueError('one\\ntwo')\nf()\n", "line 2: ValueError: one two"),
        ("import not_there\n", "line 1: ModuleNotFoundError: "),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("from tfdetect.training import HOOKS\nHOOKS.get('K', 'x')\n", "line 2: InputError: K"),
        ("a = '\0'\n", "null bytes"),
        ("a = '\udcff'\n", ""),
    ],
)
@pytest.mark.parametrize("by", ["path", "name"])
def test_what_cannot_be_imported(tmp_path, monkeypatch, content, expected, by):
    path = tmp_path / "mine_broken.py"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    monkeypatch.chdir(tmp_path)
    name = str(path) if by == "path" else "mine_broken"
    with pytest.raises(InputError) as raised:
        import_user_module(name)
    message = str(raised.value)
    assert message.startswith(f"--import {name}: ")
    assert expected in message
    assert "\n" not in message
    if "line" in expected:
        assert f"{path}, line" in message


@pytest.mark.parametrize("name", ["mine_not_there", "mine.not_there", "not/there.py", "there.py"])
def test_what_is_not_there(tmp_path, monkeypatch, name):
    write(tmp_path / "mine" / "__init__.py", "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^--import \S+: there is no "):
        import_user_module(name)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "mine.py").mkdir()
    with pytest.raises(InputError, match="no such file"):
        import_user_module(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("content", "hook", "expected"),
    [
        ("", "Mine", "TRAIN.HOOKS: no hook 'Mine' is registered ("),
        ("b = unknown\n", "Mine", "line 1: NameError"),
        (
            "from tfdetect.training import *\n@HOOKS.register('mine_1')\nclass Mine(Hook):\n"
            "    def __init__(self, x):\n        pass\n",
            "mine_1",
            "TRAIN.HOOKS: mine_1 cannot be made (TypeError: ",
        ),
        (
            "from tfdetect.training import *\n@HOOKS.register('mine_2')\nclass Mine(Hook):\n"
            "    def from_config(cfg):\n        return 3\n",
            "mine_2",
            "TRAIN.HOOKS: mine_2: is int, no tfdetect.training.Hook",
        ),
    ],
)
def test_said_before_the_training(tmp_path, capfd, content, hook, expected):
    path = write(tmp_path / "my_module.py", content)
    opts = ("TRAIN.HOOKS", f"['{hook}']")
    words = command(tmp_path / "run", DEMO, "--import", path, opts=opts)
    assert expected in fails(capfd, tfdetect.cli.train.main, "--config-file", CONFIG, *words)
    assert not (tmp_path / "run").exists()


def test_before_the_configuration_is_read(tmp_path, capfd):
    """Which may have keys of the file's."""
    path = write(tmp_path / "my_module.py", "b = unknown\n")
    words = command(tmp_path / "run", DEMO, "--import", path)
    line = fails(capfd, tfdetect.cli.train.main, "--config-file", "not_there.yaml", *words)
    assert "NameError" in line


def test_hooks_of_a_file_are_given_to_the_training(tmp_path, monkeypatch):
    """The training itself is in tests/training/test_hooks_by_train.py."""
    content = """
from tfdetect.training import HOOKS, Hook

@HOOKS.register("mine_3")
class Mine(Hook):
    def __init__(self, period):
        self.period = period

    @classmethod
    def from_config(cls, cfg):
        return cls(cfg.SOLVER.LOG_PERIOD)
"""
    path = write(tmp_path / "my_module.py", content)
    given = []

    def train(cfg, *, resume, workers, preparation):
        given.extend(preparation.hooks)
        return True

    monkeypatch.setattr(tfdetect.cli.train, "train", train)
    opts = ("TRAIN.HOOKS", "['mine_3']")
    words = command(tmp_path / "run", DEMO, "--import", path, opts=opts)
    assert tfdetect.cli.train.main(["--config-file", str(CONFIG), *words]) == 0
    (hook,) = given
    assert (type(hook).__name__, hook.period) == ("Mine", 1)
