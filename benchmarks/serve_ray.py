"""`tfdetect serve` under load: 1000 requests from 8 clients, every fourth broken or hostile.

Each request of a good image must be answered as the same image was alone, and each other one with
the error that it deserves. Ends with status 1 if one is not, or if the memory of a replica or of
the server grew by 2 % or more after a warm-up with the same mixture.

    python benchmarks/serve_ray.py [--model DIR] [--requests 1000] [--clients 8] [-- OPTION ...]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from serve import DEMO, GROWTH, ROOT, check_same, convert_demo, drive

_TIMEOUT = 5
_MEGABYTES = 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model directory (default: the demo's model)")
    parser.add_argument("--images", default=str(DEMO / "images"), help="a folder of JPEG files")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--warm-up", type=int, default=1000, help="requests (default 1000)")
    parser.add_argument("options", nargs="*", help="more, for tfdetect serve")
    args = parser.parse_args()
    files = sorted(Path(args.images).glob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or convert_demo(folder)
        command = [sys.executable, "-m", "tfdetect", "serve", "--model", model, "--port", "0"]
        command += ["--timeout", str(_TIMEOUT), "--max-body-megabytes", str(_MEGABYTES)]
        server = subprocess.Popen(
            [*command, *args.options], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            return _load(args, _Clients(_port_of(server), files), server.pid)
        finally:
            server.send_signal(signal.SIGTERM)
            if server.wait(60):
                print(f"the server ended with status {server.returncode}", file=sys.stderr)


def _port_of(server: subprocess.Popen) -> int:
    """Of the server, when it is ready."""
    assert server.stdout is not None
    for line in server.stdout:
        if match := re.fullmatch(r"http://127\.0\.0\.1:(\d+): ready", line.strip()):
            return int(match[1])
    sys.exit("the server did not start; its error is above")


def _load(args: argparse.Namespace, clients: _Clients, pid: int) -> int:
    print(f"{args.requests} requests, {args.clients} clients, {os.cpu_count()} CPUs")
    clients.learn()
    # The network's memory is that of the largest batch of the largest images.
    drive(clients.largest, args.warm_up // 4, 2 * args.clients)
    drive(clients.request, args.warm_up, args.clients)
    before = clients.memory(pid)
    clients.seconds.clear()
    start = time.perf_counter()
    _, errors = drive(clients.request, args.requests, args.clients)
    elapsed = time.perf_counter() - start
    after = clients.memory(pid)
    good = clients.seconds
    print(
        f"{args.requests / elapsed:.1f} requests/s, of them {len(good) / elapsed:.1f} images/s; "
        f"p50 {statistics.median(good) * 1e3:.0f} ms, p90 {np.quantile(good, 0.9) * 1e3:.0f} ms, "
        f"p99 {np.quantile(good, 0.99) * 1e3:.0f} ms; {errors} errors"
    )
    grown = False
    for name, bytes_before in before.items():
        growth = after[name] / bytes_before - 1
        grown |= growth >= GROWTH
        print(
            f"{name}: {bytes_before / 2**20:.0f} MB, then {after[name] / 2**20:.0f} ({growth:+.1%})"
        )
    if before.keys() != after.keys():
        print("a replica has ended", file=sys.stderr)
    print(f"images in a batch: {clients.mean_batch():.1f}")
    return int(errors > 0 or grown or before.keys() != after.keys())


class _Clients:
    """Requests of a server, three of four of them good.

    Attributes:
        seconds: that good ones took.
    """

    def __init__(self, port: int, files: list[Path]):
        self._port = port
        self._files = [(file.name, file.read_bytes()) for file in files]
        self._largest = max((content for _, content in self._files), key=_pixels)
        self._alone: list[np.ndarray] = []
        self.seconds: list[float] = []
        whole = self._files[0][1]
        huge = 10**6 * _MEGABYTES + 1
        # What is sent and the status that is right, or what a client does.
        self._bad: list[tuple[bytes, int] | Callable[[], None]] = [
            (_post(b""), 400),
            (_post(b"no image"), 400),
            (_post(whole[: len(whole) // 2]), 400),
            (_post(_bomb()), 413),
            (_post(whole, kind="text/html"), 415),
            (_post(whole, path="/nothing"), 404),
            (_post(whole, method="PUT"), 405),
            (_post(b"x", length=huge), 413),
            (_post(b"x", length=10**15), 413),
            (_post(b"10\r\n" + b"x" * 16 + b"\r\nzz\r\n", chunked=True), 400),
            (_post(_chunks(huge), chunked=True), 413),
            (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
            (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 400),
            (_post(whole, length=len(whole) + 9), 408),
            lambda: self._leave(_post(whole)),
            lambda: self._leave(_post(whole)[:200]),
            lambda: self._pipeline(whole),
        ]

    def learn(self) -> None:
        """What each image gets alone."""
        self._alone = [self._detect(content) for _, content in self._files]

    def request(self, number: int) -> None:
        """Raises ValueError where the answer is not the right one."""
        if number % 4 == 3:
            bad = self._bad[number // 4 % len(self._bad)]
            if callable(bad):
                bad()
            elif (status := self._status(bad[0])) != bad[1]:
                raise ValueError(f"status {status}, not {bad[1]}: {bad[0][:60]!r}")
            return
        index = number % len(self._files)
        name, content = self._files[index]
        start = time.perf_counter()
        found = self._detect(content)
        self.seconds.append(time.perf_counter() - start)
        check_same(name, found, self._alone[index])

    def largest(self, number: int) -> None:
        """The image with the most pixels, whatever the number is."""
        self._detect(self._largest)

    def memory(self, pid: int) -> dict[str, int]:
        """Bytes that the server and each replica have."""
        time.sleep(3)  # connections that are left alone are closed
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        result = {"server": pages * os.sysconf("SC_PAGE_SIZE")}
        for name, value in re.findall(
            r'^tfdetect_replica_memory_bytes\{replica="(.*?)"\} (\S+)$', self._metrics(), re.M
        ):
            result[f"replica {name}"] = int(float(value))
        return result

    def mean_batch(self) -> float:
        """Images that went through the network together."""
        values = dict(
            re.findall(r"^tfdetect_batch_images_(sum|count) (\S+)$", self._metrics(), re.M)
        )
        return float(values["sum"]) / float(values["count"])

    def _metrics(self) -> str:
        return self._ask("GET", "/metrics", b"").decode()

    def _detect(self, content: bytes) -> np.ndarray:
        record = json.loads(self._ask("POST", "/predict", content))
        boxes = np.array(record["pred_boxes"], np.float32).reshape(-1, 4)
        return np.concatenate([boxes, np.array(record["scores"], np.float32)[:, None]], 1)

    def _ask(self, method: str, path: str, content: bytes) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, content, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            body = response.read()
        if response.status != 200:
            raise ValueError(f"status {response.status}: {body[:200]!r}")
        return body

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=60)

    def _status(self, content: bytes) -> int:
        with self._connect() as client, client.makefile("rb") as answer:
            client.sendall(content)
            return int(answer.readline().split()[1])

    def _leave(self, content: bytes) -> None:
        with self._connect() as client:
            client.sendall(content)
            time.sleep(0.01)

    def _pipeline(self, content: bytes) -> None:
        with self._connect() as client:
            client.sendall(_post(content) + _post(content) + _post(b"", close=True))
            answers = b"".join(iter(lambda: client.recv(65536), b""))
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]
        if statuses != [200, 200, 400]:
            raise ValueError(f"statuses {statuses} of requests in one go")


def _pixels(content: bytes) -> int:
    width, height = Image.open(io.BytesIO(content)).size
    return width * height


def _post(
    body: bytes,
    *,
    kind: str = "image/jpeg",
    path: str = "/predict",
    method: str = "POST",
    length: int | None = None,
    chunked: bool = False,
    close: bool = False,
) -> bytes:
    """A request; its Content-Length is another one than that of the body where `length` says so."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"]
    size = len(body) if length is None else length
    lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _chunks(size: int) -> bytes:
    """A chunked body of at least so many bytes, without its end."""
    return (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * (size // 0x10000 + 1)


def _bomb() -> bytes:
    """A PNG of 50 000 x 50 000 pixels in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


if __name__ == "__main__":
    sys.exit(main())
