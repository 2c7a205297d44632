"""The HTTP server of a process, in a thread."""

from __future__ import annotations

import errno
import socket
import threading

import uvicorn

from tfdetect.errors import InputError
from tfdetect.serving.answers import Limits
from tfdetect.serving.app import Application
from tfdetect.serving.metrics import Metrics
from tfdetect.serving.protocol import limited_protocol

_KEEP_ALIVE = 5
"""Seconds for which a connection waits for the next request."""
_HEAD = 2**15
"""Bytes in the head of a request."""
_BACKLOG = 128
_ADVICE = {
    errno.EADDRINUSE: "stop what uses the port, or give another --port",
    errno.EACCES: "give a --port from 1024 on",
}


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to.

    Args:
        host: a name or an address of this machine, IPv4 or IPv6.
        port: 0 for any that is free.

    Raises:
        InputError: there is no such address, or the port is in use or not allowed.
    """
    where = f"--host {host} --port {port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = _ADVICE.get(getattr(error, "errno", None) or 0, "give an address of this machine")
        raise InputError(f"{where}: cannot be used ({reason}); {advice}") from error


class HttpServer:
    """Answers with an application, from `start` to `stop`.

    Args:
        application: of the paths.
        listener: of `listen`.
        limits: of what clients may do.
        metrics: where they are counted.
    """

    def __init__(
        self, application: Application, listener: socket.socket, limits: Limits, metrics: Metrics
    ):
        self._application = application
        self._listener = listener
        config = uvicorn.Config(
            application,
            http=limited_protocol(limits, metrics),
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="asyncio",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            h11_max_incomplete_event_size=_HEAD,
            # What is accepted arrives, is answered and is taken within this.
            timeout_graceful_shutdown=int(3 * limits.seconds) + 1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="http", daemon=True
        )

    @property
    def address(self) -> str:
        """Such as http://127.0.0.1:8000."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Answer in a thread from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Reject new requests, and return when those that were accepted are answered."""
        self._application.state = "stopping"
        self._server.should_exit = True
        # In steps, so that signals reach this thread.
        while self._thread.is_alive():
            self._thread.join(0.1)
