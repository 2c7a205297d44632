"""A server of files on this machine that can misbehave as servers do."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """How one request is answered; each request takes the next, the last one for all further ones.

    Attributes:
        status: 200 sends the file, or the part of it that is asked for.
        headers: which are sent beside, or in place of the usual ones; None leaves one out.
        cut: bytes of the body after which the connection is closed.
        stall: seconds of silence after `cut` bytes.
        ranges: whether the server can send parts.
        content: in place of the file.
        chunked: whether the body is sent in chunks, without its length.
        delay: seconds for each 16 KiB.
    """

    status: int = 200
    headers: dict[str, str | None] = field(default_factory=dict)
    cut: int | None = None
    stall: float = 0
    ranges: bool = True
    content: bytes | None = None
    chunked: bool = False
    delay: float = 0


class FileServer:
    """Files by path, how requests of them are answered, and the requests that came."""

    def __init__(self, address: str):
        self.address = address
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.everything: bytes | None = None  # what other paths have
        self.requests: list[tuple[str, str | None]] = []
        self.tag = '"1"'

    def add(self, path: str, content: bytes, *answers: Answer) -> str:
        """Serve a file; gives its address."""
        self.files[path], self.answers[path] = content, list(answers)
        return f"{self.address}{path}"

    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.requests]


@contextlib.contextmanager
def file_server() -> Iterator[FileServer]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.close_connection = True
            asked = self.headers.get("Range")
            server.requests.append((self.path, asked))
            content = server.files.get(self.path.partition("?")[0], server.everything)
            answers = server.answers.get(self.path.partition("?")[0], [])
            answer = answers.pop(0) if len(answers) > 1 else (answers or [Answer()])[0]
            if content is None and answer.status == 200:
                answer = Answer(404)
            self.reply(answer, content or b"", asked)

        def reply(self, answer: Answer, content: bytes, asked: str | None) -> None:
            body = content if answer.content is None else answer.content
            status = answer.status
            headers: dict[str, str | None] = {"ETag": server.tag, "Connection": "close"}
            unchanged = self.headers.get("If-Range") in (None, server.tag)
            if status == 200 and asked and answer.ranges and unchanged:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                status = 206 if start < len(body) else 416
                end = f"{start}-{len(body) - 1}" if status == 206 else "*"
                headers["Content-Range"] = f"bytes {end}/{len(body)}"
                body = body[start:]
            if answer.chunked:
                headers["Transfer-Encoding"] = "chunked"
            else:
                headers["Content-Length"] = str(len(body))
            self.send_response(status)
            for name, value in {**headers, **answer.headers}.items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.send(body[: answer.cut], answer)
                if answer.stall:
                    ended.wait(answer.stall)
                if answer.cut is not None:
                    self.connection.shutdown(socket.SHUT_RDWR)

        def send(self, body: bytes, answer: Answer) -> None:
            for first in range(0, len(body), 1 << 14):
                piece = body[first : first + (1 << 14)]
                if answer.chunked:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                else:
                    self.wfile.write(piece)
                time.sleep(answer.delay)
            if answer.chunked and answer.cut is None:
                self.wfile.write(b"0\r\n\r\n")

    ended = threading.Event()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = FileServer(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        ended.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join(5)
