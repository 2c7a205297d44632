"""Who reads the checkpoints of other libraries: importers, registered or found by entry point."""

from __future__ import annotations

import numpy as np
import pytest

from convert_d2.libraries.importer import to_state_dict
from tfdetect.checkpoint import libraries
from tfdetect.checkpoint.formats.reader import Checkpoint
from tfdetect.checkpoint.libraries import StateDict, import_state_dict, register_importer
from tfdetect.plugins import plugins

OURS = Checkpoint({"mine": np.zeros(2, np.float32)}, "x.pkl", "", None, "pkl")


@pytest.fixture(autouse=True)
def nobody_registered(monkeypatch):
    monkeypatch.setattr(libraries, "_importers", {})
    monkeypatch.setattr(libraries, "plugins", lambda group: {})


def test_unknown_arrays_keep_their_names():
    assert list(import_state_dict(OURS, "x").arrays) == ["mine"]
    register_importer("convert_d2", to_state_dict)
    assert list(import_state_dict(OURS, "x").arrays) == ["mine"]


def test_first_importer_that_knows_it():
    def rename(checkpoint, source):
        return StateDict({"theirs": checkpoint.arrays["mine"]}, notes=(source,))

    register_importer("none", lambda checkpoint, source: None)
    register_importer("theirs", rename)
    found = import_state_dict(OURS, "MODEL.WEIGHTS: x")
    assert list(found.arrays) == ["theirs"]
    assert found.notes == ("MODEL.WEIGHTS: x",)


def test_entry_point(monkeypatch):
    """What entry_points.txt declares is convert_d2's importer."""
    monkeypatch.setattr(libraries, "plugins", plugins)
    backbone = Checkpoint({"conv1_w": np.zeros(2, np.float32)}, "x.pkl", "", None, "pkl")
    assert list(import_state_dict(backbone, "x").arrays) == ["stem.conv1.weight"]
    assert libraries._importers == {"convert_d2": to_state_dict}
