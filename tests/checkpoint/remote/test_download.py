"""Downloads from a server on this machine that cuts, stalls, lies and rejects."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.support.file_server import Answer
from tests.support.paths import ROOT
from tfdetect.checkpoint.remote import download
from tfdetect.checkpoint.remote.addresses import local_file
from tfdetect.errors import InputError

CONTENT = b"\x80\x02" + np.random.default_rng(1).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()[:6]
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = f"/model_final_{MD5}.pkl"
NO_DIGITS = "/R-50.pkl"


def files(cache):
    """What is in the cache, but locks."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


@pytest.mark.parametrize(
    "name", [NAME, f"/model_final_{SHA256[:6]}.pkl", f"/x-{SHA256[:8]}.pth", NO_DIGITS]
)
def test_whole(server, cache, name):
    path = local_file(server.add(name, CONTENT))
    assert path.read_bytes() == CONTENT
    assert path.parent.parent == cache
    assert local_file(f"{server.address}{name}") == path
    assert len(server.requests) == 1
    assert files(cache) == [name[1:]]


@pytest.mark.parametrize("name", [NAME, NO_DIGITS])
@pytest.mark.parametrize("cuts", [(100_000,), (0, 100_000, 60_000), (299_999,)])
def test_cut_and_continued(server, cache, name, cuts):
    cut = [Answer(cut=count) for count in cuts]
    path = local_file(server.add(name, CONTENT, *cut, Answer()))
    assert path.read_bytes() == CONTENT
    assert server.requests[-1][1].startswith("bytes=")
    assert files(cache) == [name[1:]]


def test_continued_by_another_call(server, cache):
    address = server.add(NAME, CONTENT, Answer(cut=70_000), *[Answer(cut=0)] * 3, Answer())
    with pytest.raises(InputError, match="same command continues from there"):
        local_file(address, "--weights")
    assert files(cache) == [f"{NAME[1:]}.part", f"{NAME[1:]}.part.json"]
    assert local_file(address).read_bytes() == CONTENT
    start = int(server.ranges()[-1].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 70_000


def test_another_file_is_there_when_it_is_continued(server, cache):
    server.add(NO_DIGITS, b"\x80" * 200_000, Answer(cut=70_000), Answer(cut=0))
    with pytest.raises(InputError):
        local_file(f"{server.address}{NO_DIGITS}")
    server.tag = '"2"'
    assert local_file(server.add(NO_DIGITS, CONTENT)).read_bytes() == CONTENT


def test_the_beginning_is_of_another_file(server, cache):
    """With the same ETag: the hash finds it, and all of it is downloaded again."""
    server.add(NAME, b"\x80" * 200_000, Answer(cut=70_000), Answer(cut=0))
    with pytest.raises(InputError):
        local_file(f"{server.address}{NAME}")
    assert local_file(server.add(NAME, CONTENT)).read_bytes() == CONTENT
    continued, again = server.ranges()[-2:]
    assert continued is not None
    assert again is None


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([Answer(cut=100_000, ranges=False), Answer(ranges=False)], id="no ranges"),
        pytest.param([Answer(cut=100_000, headers={"ETag": None}), Answer()], id="no ETag"),
        pytest.param([Answer(cut=100_000, headers={"ETag": 'W/"1"'}), Answer()], id="weak ETag"),
        pytest.param([Answer(cut=90_000, chunked=True), Answer(chunked=True)], id="chunks"),
        pytest.param([Answer(503), Answer(429), Answer()], id="busy"),
        pytest.param(
            [Answer(cut=9000), Answer(headers={"Content-Range": "bytes 0-9/300002"}), Answer()],
            id="another part",
        ),
        pytest.param([Answer(cut=9000), Answer(416), Answer()], id="a part that is not there"),
        pytest.param([Answer(206), Answer()], id="a part that nobody asked for"),
    ],
)
def test_what_servers_do(server, cache, answers):
    assert local_file(server.add(NAME, CONTENT, *answers)).read_bytes() == CONTENT
    assert files(cache) == [NAME[1:]]


def test_all_of_it_was_there_already(server, cache):
    """A length that is too large, and no end of the attempts to get the rest but the server's."""
    address = server.add(NAME, CONTENT, Answer(headers={"Content-Length": "400000"}), Answer())
    assert local_file(address).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(404), r"no such file on the server \(404\); correct the address"),
        (Answer(410), r"no such file on the server \(410\)"),
        (Answer(403), r"does not allow it \(403 Forbidden\); give an address that needs no pass"),
        (Answer(401), r"does not allow it \(401 Unauthorized\)"),
        (Answer(418), r"answers 418"),
        (Answer(204), r"answers 204"),
        (Answer(304), r"answers 304"),
        (Answer(500), r"answers 500 Internal Server Error; check the network"),
        (Answer(302, {"Location": "file:///etc/passwd"}), "cannot be used"),
        (Answer(302, {"Location": "ftp://127.0.0.1/x"}), "cannot be used"),
        (Answer(302, {"Location": NAME}), "is redirected endlessly"),
        (Answer(headers={"Content-Encoding": "gzip"}), r"sends it compressed \(gzip\)"),
        (Answer(content=CONTENT[:-1]), f"does not have the hash {MD5} of its name; .*; try again"),
        (Answer(content=CONTENT + b"x"), f"does not have the hash {MD5}"),
        (Answer(content=b""), "the server sent nothing"),
        (Answer(headers={"Content-Length": "9000"}), f"does not have the hash {MD5}"),
        (Answer(headers={"Content-Length": "400000"}, ranges=False), "ended after 300002 of 40000"),
        (Answer(headers={"Content-Length": str(10**17)}), r"disk left for 88\.8PiB; free some"),
        (Answer(cut=100), "the connection ended after 0 of 30000|closed"),
    ],
)
def test_what_cannot_be_used(server, cache, answer, message):
    address = server.add(NAME, CONTENT, answer)
    if answer.cut is not None:
        server.answers[NAME] = [answer, Answer(cut=0)]
    with pytest.raises(InputError, match=message) as raised:
        local_file(address, "--weights")
    assert "\n" not in str(raised.value)
    assert NAME[1:] not in files(cache)
    if "hash" in message:
        assert files(cache) == []
    assert len(server.requests) <= 31


@pytest.mark.parametrize(
    "content",
    [b"\n<!DOCTYPE html><p>Log in", b"<?xml version='1.0'?><Error/>", b'{"error": 1}'],
)
def test_a_page_in_place_of_the_file(server, cache, content):
    address = server.add(NO_DIGITS, content, Answer(headers={"Content-Type": "text/html"}))
    with pytest.raises(InputError, match=r"R-50.pkl: what the server sent is"):
        local_file(address)
    assert files(cache) == []


def test_redirected(server, cache):
    server.add("/there", CONTENT)
    address = server.add(NAME, b"", Answer(302, {"Location": "/there", "Content-Length": "0"}))
    path = local_file(address)
    assert path.read_bytes() == CONTENT
    assert path.name == NAME[1:]


@pytest.mark.parametrize("sent", [0, 100_000])
def test_a_server_that_stalls(server, cache, monkeypatch, sent):
    monkeypatch.setattr(download, "_TIMEOUT", (1, 0.2))
    stalling = Answer(cut=sent, stall=5)
    assert local_file(server.add(NAME, CONTENT, stalling, Answer())).read_bytes() == CONTENT
    shutil.rmtree(cache)
    address = server.add(NAME, CONTENT, stalling, Answer(cut=0, stall=5))
    start = time.monotonic()
    with pytest.raises(InputError, match=r"timed out|did not answer"):
        local_file(address)
    assert time.monotonic() - start < 4


def test_no_server(cache):
    with pytest.raises(InputError, match=r"x.pkl: .*refused.*; check the network") as raised:
        local_file("http://127.0.0.1:9/x.pkl", "--weights")
    assert str(raised.value).startswith("--weights: http://127.0.0.1:9/x.pkl: ")
    with pytest.raises(InputError, match=r"nowhere\.invalid"):
        local_file("http://nowhere.invalid/x.pkl", "--weights")


def test_not_encrypted_any_more(cache, monkeypatch):
    """From https to http; there is no server of https here."""
    import requests

    def answer(self, request, **_):
        response = requests.Response()
        response.status_code, response.url, response.request = 302, request.url, request
        response.headers["Location"] = "http://127.0.0.1:9/x.pkl"
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", answer)
    with pytest.raises(InputError, match="redirects from https to http"):
        local_file("https://127.0.0.1:9/x.pkl")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_full_disk(server, cache, monkeypatch, number):
    """What was written stays, and is continued from when there is space."""
    address = server.add(NAME, CONTENT)

    def full(descriptor):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(download.os, "fsync", full)
        with pytest.raises(InputError, match=f"cannot be written .{os.strerror(number)}.; free"):
            local_file(address, "--weights")
    assert NAME[1:] not in files(cache)
    assert local_file(address).read_bytes() == CONTENT


def run(address, cache, **options):
    code = (
        "import sys\n"
        "from tfdetect.cli.command import run_command\n"
        "from tfdetect.checkpoint.remote.addresses import local_file\n"
        "run_command(lambda: print(local_file(sys.argv[1], '--weights')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, address],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_limit_of_a_file_s_size(server, cache):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    process = run(server.add(NAME, CONTENT), cache, preexec_fn=limit)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.splitlines()[-1].rpartition("\r")[2].startswith("error: --weights: ")
    assert "cannot be written (File too large); free some space" in error
    assert "Traceback" not in error
    assert files(cache) == [f"{NAME[1:]}.part", f"{NAME[1:]}.part.json"]
    assert local_file(f"{server.address}{NAME}").read_bytes() == CONTENT
    assert server.ranges()[-1].startswith("bytes=")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(server, cache, number):
    process = run(server.add(NAME, CONTENT, Answer(delay=0.05), Answer()), cache)
    part = cache / f"127.0.0.1:{server.address.rpartition(':')[2]}" / f"{NAME[1:]}.part"
    for _ in range(200):
        if part.exists() and part.stat().st_size > 1 << 16:
            break
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "kept, and the same command continues" in error
    assert "Traceback" not in error
    assert local_file(f"{server.address}{NAME}").read_bytes() == CONTENT
    assert server.ranges()[-1].startswith("bytes=")


def test_two_processes_download_it_once(server, cache):
    address = server.add(NAME, CONTENT, Answer(delay=0.02))
    processes = [run(address, cache) for _ in range(3)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    assert len({out for out, _ in results}) == 1
    assert len(server.requests) == 1


def test_a_damaged_copy_is_replaced(server, cache):
    path = local_file(server.add(NAME, CONTENT))
    path.write_bytes(CONTENT[:1000])
    assert local_file(f"{server.address}{NAME}").read_bytes() == CONTENT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_without_permission(server, cache):
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    with pytest.raises(InputError, match="set TFDETECT_CACHE to a folder that can be written"):
        local_file(server.add(NAME, CONTENT))


@pytest.mark.parametrize("name", ["", "weights"])
def test_a_cache_that_is_a_file(server, cache, name):
    path = cache.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file")
    with pytest.raises(InputError, match=r"cannot be kept in .*; set TFDETECT_CACHE to a folder"):
        local_file(server.add(NAME, CONTENT))
    assert not server.requests


def test_notes_that_are_damaged(server, cache):
    address = server.add(NAME, CONTENT, Answer(cut=70_000), Answer(cut=0))
    with pytest.raises(InputError):
        local_file(address)
    (notes,) = cache.rglob("*.part.json")
    for text in ("", "{", "[]", json.dumps({"url": 1}), json.dumps({"url": address, "x": 1})):
        notes.write_text(text)
        server.answers[NAME] = [Answer(cut=70_000), Answer(cut=0)]
        with pytest.raises(InputError):
            local_file(address)
    server.answers[NAME] = []
    assert local_file(address).read_bytes() == CONTENT


def test_nothing_is_executed(server, cache, tmp_path):
    import pickle

    class Opens:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'run'}",)

    from tfdetect.checkpoint.formats.reader import read_checkpoint

    path = local_file(server.add(NO_DIGITS, pickle.dumps({"model": Opens()})))
    with pytest.raises(InputError):
        read_checkpoint(path)
    assert not (tmp_path / "run").exists()
