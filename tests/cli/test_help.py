"""What `--help` of every command says: help of each option, groups, and examples that parse."""

from __future__ import annotations

import argparse
import shlex

import pytest

from tfdetect.cli.arguments import CommandParser
from tfdetect.cli.main import GROUP
from tfdetect.plugins import plugins

COMMANDS = plugins(GROUP)
OWN = (
    "predict",
    "track",
    "train",
    "evaluate",
    "convert",
    "inspect",
    "quantize",
    "export",
    "batch",
    "serve",
    "coco-results",
    "dataset",
    "reproduce",
    "build-operators",
)


class Parsed(BaseException):
    """The arguments were accepted."""


@pytest.fixture
def parser_of(monkeypatch):
    """Parse a command's arguments and do no more: gives its parser."""
    real = {
        name: getattr(argparse.ArgumentParser, name)
        for name in ("parse_args", "parse_intermixed_args")
    }

    def parse(command, words):
        found = []

        def stop_after(name):
            def parse_and_stop(self, *arguments, **keywords):
                found.append(self)
                real[name](self, *arguments, **keywords)
                raise Parsed

            return parse_and_stop

        for name in real:
            monkeypatch.setattr(argparse.ArgumentParser, name, stop_after(name))
        with pytest.raises((Parsed, SystemExit)) as raised:
            COMMANDS[command].load()(words)
        return found[0], raised.type is Parsed

    return parse


def actions_of(parser):
    """Those of its subcommands, too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from actions_of(subparser)
        else:
            yield action


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help(command, parser_of, capsys):
    parser, _ = parser_of(command, ["--help"])
    assert f"usage: tfdetect {command}" in capsys.readouterr().out
    for action in actions_of(parser):
        assert action.help not in (None, "", argparse.SUPPRESS), action.option_strings
        # A choice's default is in its help, which names it.
        if action.choices and isinstance(action.default, str):
            assert "default" in action.help, action.option_strings
            assert action.default in action.help, action.option_strings


@pytest.mark.parametrize("command", OWN)
def test_examples(command, parser_of, capsys):
    parser, _ = parser_of(command, ["--help"])
    assert isinstance(parser, CommandParser)
    lines = parser.epilog.split("\n\n")[0].replace("\\\n", " ").splitlines()
    assert lines[0] == "examples:"
    assert len(lines) > 1
    for line in lines[1:]:
        program, name, *words = shlex.split(line)
        assert (program, name) == ("tfdetect", command)
        assert parser_of(command, words)[1], line


@pytest.mark.parametrize("command", ["predict", "track", "evaluate", "quantize", "export"])
def test_without_a_model(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        COMMANDS[command].load()([])
    complaint = capsys.readouterr().err
    assert "--model" in complaint
    assert "tfdetect convert" in complaint


def test_groups_have_their_order(parser_of, capsys):
    parser_of("predict", ["--help"])
    text = capsys.readouterr().out
    titles = ["\ninput and output:", "\nmodel:", "\nevaluation:", "\nexamples:"]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
