"""Clients that are slow, lie, send no HTTP, or leave: nobody else's request fails."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from tests.support.http_client import LIMITS, answer, ask, request, served

CHUNKED = "Transfer-Encoding: chunked"


def wait_until(true, seconds=8):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def send_until_closed(client, content, pause=0.0):
    """Send again and again until the server ends the connection, which it must soon."""
    end = time.monotonic() + 8
    while time.monotonic() < end:
        try:
            client.sendall(content)
        except ConnectionError:
            return
        time.sleep(pause)
    raise AssertionError("the connection goes on")


@pytest.fixture(scope="module")
def server():
    with served() as one:
        yield one


@pytest.fixture(autouse=True)
def _others_are_served(server):
    """Before and after every test; and no connection, task or byte is left."""
    yield
    assert ask(server, request(b"image"))[0] == 200
    wait_until(lambda: not server.metric("tfdetect_connections"))
    wait_until(lambda: not server.metric("tfdetect_queue"))
    assert server.metric("tfdetect_body_bytes") == 0


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 200 + b"\r\n\r\n",  # TLS
        b"GET\r\n\r\n",
        b"POST /predict HTTP/9.9\r\n\r\n",
        b"POST /predict HTTP/1.1\r\n\r\n",  # no Host
        b"POST /predict HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"POST /pr\xffedict HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        request(b"zz\r\nabc\r\n", CHUNKED, length=None),
        request(b"fffffffffffffffffffff\r\nabc\r\n", CHUNKED, length=None),
        request(b"abc", "Transfer-Encoding: gzip", length=None),
        request(b"3\r\nabc\r\n0\r\n\r\n", CHUNKED, length=3),
    ],
)
def test_not_http(server, content):
    status, found = ask(server, content)
    assert 400 <= status < 500 or status == 501
    assert found["error"]


def test_more_than_the_length(server):
    """What follows is the next request, which is none."""
    with server.connect() as client:
        client.sendall(request(b"image and more", length=5))
        assert answer(client)[:1] + answer(client)[:1] == (200, 400)
        assert client.recv(1) == b""


def test_less_than_the_length(server):
    with server.connect() as client:
        client.sendall(request(b"image", length=50))
        assert answer(client)[0] == 408


def test_closed_in_the_middle(server):
    for content in (b"", b"POST /pre", request(b"image", length=50)):
        with server.connect() as client:
            client.sendall(content)
        with server.connect() as client:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1000) == b""
    wait_until(lambda: server.metric('tfdetect_requests_total{path="/predict",status="499"}') >= 2)


def test_gone_before_the_answer(server):
    """The model is told; `wait` would be answered at the end of the tests."""
    before, sent = server.cancelled, len(server.bodies)
    with server.connect() as client:
        client.sendall(request(b"wait"))
        server.wait_for(sent + 1)
    wait_until(lambda: server.cancelled > before)


def test_slow_head(server):
    with server.connect() as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\n")
        send_until_closed(client, b"X: y\r\n", 0.05)


def test_half_a_head(server):
    with server.connect() as client:
        client.sendall(b"POST /predict HTT")
        assert answer(client)[0] == 408
        assert client.recv(1) == b""


def test_silence(server):
    with server.connect() as client:
        assert client.recv(1) == b""


def test_slow_body(server):
    with server.connect() as client:
        client.sendall(request(b"", length=1000))
        for _ in range(30):
            client.sendall(b"x")
            time.sleep(0.05)
        assert answer(client)[0] == 408


def test_chunks_without_end(server):
    """The answer comes, and then the connection ends although the client goes on."""
    with server.connect() as client:
        client.sendall(request(b"", CHUNKED, length=None))
        send_until_closed(client, b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
    assert server.metric('tfdetect_requests_total{path="/predict",status="413"}') >= 1


def test_answers_that_nobody_reads(server):
    """Requests without end on a connection whose answers stay in it."""
    with server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.2)
        with contextlib.suppress(OSError):
            while True:
                client.sendall(request(line="GET /metrics HTTP/1.1", length=None) * 100)
        # The client need not hear of it: its side takes nothing, a reset included.
        wait_until(lambda: not server.metric("tfdetect_connections"))


def test_pipelined(server):
    with server.connect() as client:
        client.sendall(request(b"a") + request(b"bc") + request(b"") + request(b"def"))
        assert [answer(client)[0] for _ in range(4)] == [200, 200, 400, 200]


def test_no_result_in_time(server):
    status, found = ask(server, request(b"wait for ever"))
    assert status == 504
    assert "1 seconds" in found["error"]


def test_many_at_once(server):
    """Those beyond the queue are told to come again; the queue is as long as it was."""
    found: list[int] = []

    def work() -> None:
        found.append(ask(server, request(b"wait"))[0])

    before = len(server.bodies)
    clients = [threading.Thread(target=work) for _ in range(20)]
    for client in clients:
        client.start()
    server.wait_for(before + LIMITS.queue)
    for client in clients:
        client.join()
    assert sorted(found) == [503] * (20 - LIMITS.queue) + [504] * LIMITS.queue


def test_memory_of_bodies(server):
    """Bodies that arrive slowly are bounded together."""
    whole = LIMITS.bodies // LIMITS.body
    clients = [server.connect() for _ in range(whole)]
    for client in clients:
        client.sendall(request(b"x" * (LIMITS.body - 1), length=LIMITS.body))
    wait_until(lambda: server.metric("tfdetect_body_bytes") == whole * (LIMITS.body - 1))
    assert ask(server, request(b"x" * 1000))[0] == 503
    for client in clients:
        client.sendall(b"x")
    assert [answer(client)[0] for client in clients] == [200] * whole
    for client in clients:
        client.close()


def test_many_connections(server):
    few = dataclasses.replace(LIMITS, connections=3)
    with served(few) as one:
        silent = [one.connect() for _ in range(3)]
        wait_until(lambda: one.metric("tfdetect_connections") == 3)
        with one.connect() as client:
            status, headers, _ = answer(client)
            assert (status, headers["retry-after"]) == (503, "1")
        for client in silent:
            client.close()


def test_stop_answers_what_was_accepted():
    with (
        served(dataclasses.replace(LIMITS, seconds=20)) as one,
        one.connect() as client,
        one.connect() as idle,
        one.connect() as arriving,
    ):
        client.sendall(request(b"wait"))
        arriving.sendall(request(b"ima", length=5))
        wait_until(lambda: one.metric("tfdetect_body_bytes") == 7)
        one.wait_for(1)
        ending = threading.Thread(target=one.server.stop)
        ending.start()
        time.sleep(0.3)
        assert idle.recv(1) == b""
        with pytest.raises(OSError):
            one.connect()
        arriving.sendall(b"ge")
        one.release()
        assert answer(client)[0] == 200
        assert answer(arriving)[0] == 200
        ending.join(10)
        assert not ending.is_alive()
