"""Commands that reject what they are given."""

from __future__ import annotations

import pytest

from tfdetect.cli.command import run_command


def fails(capfd, main, *arguments, status=2):
    """Run a command in this process; it must fail with one line, which is returned."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as raised:
        run_command(lambda: main([str(argument) for argument in arguments]))
    out, err = capfd.readouterr()
    assert raised.value.code == status, err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in out
    return lines[0]
