"""Keys of a user's own."""

from __future__ import annotations

import copy

import pytest

from tfdetect.config import add_config, dump_config, load_config
from tfdetect.config.defaults import DEFAULTS
from tfdetect.config.suggest import forget_keys
from tfdetect.errors import InputError


@pytest.fixture(autouse=True)
def schema():
    """The schema is as it was afterwards."""
    before = copy.deepcopy(DEFAULTS)
    yield
    DEFAULTS.clear()
    DEFAULTS.update(before)
    forget_keys()


def write(tmp_path, text):
    path = tmp_path / "model.yaml"
    path.write_text(text)
    return path


def test_added_keys_are_read_checked_and_written(tmp_path):
    path = write(tmp_path, "MODEL:\n  MINE:\n    WIDTH: 64\n")
    with pytest.raises(InputError, match=r"unknown key MODEL\.MINE"):
        load_config(path)
    for _ in range(2):  # the same again changes nothing
        add_config("MODEL.MINE", {"WIDTH": 32, "HEAD": {"NAME": "a"}})
    cfg = load_config(path, ["MODEL.MINE.HEAD.NAME", "b"])
    assert (cfg.MODEL.MINE.WIDTH, cfg.MODEL.MINE.HEAD.NAME) == (64, "b")
    assert load_config(write(tmp_path, dump_config(cfg))) == cfg
    with pytest.raises(InputError, match=r"closest known key is MODEL\.MINE\.WIDTH"):
        load_config(path, ["MODEL.MINE.WIDHT", 1])
    with pytest.raises(InputError, match=r"MODEL\.MINE\.WIDTH: "):
        load_config(path, ["MODEL.MINE.WIDTH", "wide"])


def test_what_is_there_stays():
    with pytest.raises(InputError, match=r"^MODEL\.FPN\.NORM: is a key already"):
        add_config("MODEL.FPN", {"NORM": "GN"})
    with pytest.raises(InputError, match=r"^MODEL\.WEIGHTS\.X: WEIGHTS is a key, not a section"):
        add_config("MODEL.WEIGHTS.X", {"Y": 1})
