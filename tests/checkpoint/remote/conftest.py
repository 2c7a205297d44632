"""A server, and a cache of this test's own."""

from __future__ import annotations

import pytest

from tests.support.file_server import file_server
from tfdetect.checkpoint.remote import download


@pytest.fixture
def server():
    with file_server() as found:
        yield found


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of downloads; attempts follow one another at once."""
    monkeypatch.setenv("TFDETECT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "detectron2"))
    monkeypatch.delenv("TFDETECT_ZOO_URL", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_WAIT", 0.001)
    return tmp_path / "cache" / "weights"
