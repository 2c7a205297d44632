"""A server, and a cache of this test's own."""

from __future__ import annotations

import pytest

from tests.support.file_server import file_server
from tests.support.small_zoo import use_caches
from tfdetect.checkpoint.remote import download


@pytest.fixture
def server():
    with file_server() as found:
        yield found


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of downloads; attempts follow one another at once."""
    monkeypatch.delenv("TFDETECT_ZOO_URL", raising=False)
    monkeypatch.setattr(download, "_WAIT", 0.001)
    return use_caches(tmp_path, monkeypatch)
