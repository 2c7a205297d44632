"""An HTTP server in this process with a model that needs no network, and clients of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator

from tfdetect.serving.answers import Answer, Limits, Rejected
from tfdetect.serving.app import Application
from tfdetect.serving.metrics import Metrics
from tfdetect.serving.server import HttpServer, listen

LIMITS = Limits(body=100_000, bodies=400_000, seconds=1.0, queue=4, connections=50)


class Served:
    """A server whose model answers with what it got.

    A body that begins with b"wait" is answered when `release` is called, or not at all; b"busy"
    and b"bug" are what a model raises.

    Attributes:
        server: what is tested.
        application: its paths.
        metrics: what it counts.
        bodies: what reached the model.
        cancelled: how many of them were given up.
    """

    def __init__(self, limits: Limits):
        self.metrics = Metrics()
        self.application = Application(limits, self.metrics)
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.server = HttpServer(self.application, listener, limits, self.metrics)
        self.bodies: list[bytes] = []
        self.cancelled = 0
        self._released = False

    def release(self) -> None:
        self._released = True

    async def detect(self, content: bytes, file_name: str) -> Answer:
        self.bodies.append(content)
        try:
            while content.startswith(b"wait") and not self._released:
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if content.startswith(b"busy"):
            raise Rejected(503, "the model is busy")
        if content.startswith(b"bug"):
            raise TypeError("a bug")
        body = json.dumps({"file_name": file_name, "bytes": len(content)}).encode()
        return Answer(200, body, 1, "here:1", 1000)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def wait_for(self, count: int) -> None:
        """Until so many bodies have reached the model."""
        end = time.monotonic() + 5
        while len(self.bodies) < count:
            assert time.monotonic() < end
            time.sleep(0.01)

    def metric(self, name: str) -> float:
        """The value of a counter or gauge, its labels included."""
        text = self.metrics.text().decode()
        match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(match[1]) if match else 0.0


@contextlib.contextmanager
def served(limits: Limits = LIMITS, ready: bool = True) -> Iterator[Served]:
    """Serve until the block ends."""
    one = Served(limits)
    if ready:
        one.application.serve(one.detect, {"class_names": ["person"]})
    one.server.start()
    try:
        yield one
    finally:
        one.release()
        one.server.stop()


def request(
    body: bytes = b"",
    *headers: str,
    line: str = "POST /predict HTTP/1.1",
    length: int | None = -1,
) -> bytes:
    """A request; its Content-Length is that of the body, another one or, for None, none."""
    head = [line, "Host: here", *headers]
    if length is not None:
        head.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def answer(client: socket.socket) -> tuple[int, dict[str, str], dict]:
    """The status, the headers and the JSON of the next answer; ConnectionError where none comes."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = client.recv(1)
        if not more:
            raise ConnectionError(f"closed after {received!r}")
        received += more
    first, *lines = received.decode().strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if first.split()[1] == "100":
        return 100, headers, {}
    body = b""
    while len(body) < int(headers["content-length"]):
        body += client.recv(int(headers["content-length"]) - len(body))
    return int(first.split()[1]), headers, json.loads(body)


def ask(one: Served, content: bytes, seconds: float = 10) -> tuple[int, dict]:
    """Send bytes on a connection of their own; the status and the JSON of the answer."""
    with one.connect() as client:
        client.settimeout(seconds)
        client.sendall(content)
        status, _, found = answer(client)
        return status, found
