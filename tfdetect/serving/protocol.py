"""HTTP/1.1 by uvicorn and h11, with limits on clients that are slow or send no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from tfdetect.serving.answers import RETRY, Limits, error_body
from tfdetect.serving.metrics import Metrics

_LINGER = 5.0
"""Seconds for which the rest of a body is read and dropped after its answer: a connection that is
closed earlier takes the answer with it."""
_LOOK = 1.0
"""Seconds from one look at a connection to the next."""


def limited_protocol(limits: Limits, metrics: Metrics) -> type[H11Protocol]:
    """A protocol for `uvicorn.Config(http=...)`."""

    class Bound(_LimitedProtocol):
        def __init__(self, *arguments: Any, **keywords: Any):
            super().__init__(limits, metrics, *arguments, **keywords)

    return Bound


class _LimitedProtocol(H11Protocol):
    """uvicorn limits neither the time that the head of a request takes nor the time in which a
    client takes its answer, and its own answers are not JSON."""

    def __init__(self, limits: Limits, metrics: Metrics, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._limits = limits
        self._metrics = metrics
        self._watch: asyncio.TimerHandle | None = None
        self._waiting: object = None
        self._since = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._metrics.connections.set(len(self.connections))
        if len(self.connections) > self._limits.connections:
            self._end(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again")
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)
        self._metrics.connections.set(len(self.connections))

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        self._end(HTTPStatus.BAD_REQUEST, "this is not a valid HTTP/1.1 request")

    def shutdown(self) -> None:
        # A client that sent no HTTP has its answer, and is being disconnected.
        with contextlib.suppress(h11.LocalProtocolError):
            super().shutdown()

    def _look(self) -> None:
        """Disconnect a client that has been waited for too long."""
        waiting, seconds = self._client_is_waited_for()
        now = time.monotonic()
        if waiting is None or waiting != self._waiting:
            self._waiting, self._since = waiting, now
        elif now - self._since > seconds:
            if self.transport.is_closing() or self.transport.get_write_buffer_size():
                self.transport.abort()
            elif self.conn.trailing_data[0]:
                message = f"the request did not arrive within {self._limits.seconds:g} seconds"
                self._end(HTTPStatus.REQUEST_TIMEOUT, message)
            else:
                self.transport.close()
            self._waiting = None
        self._watch = self.loop.call_later(min(_LOOK, self._limits.seconds / 4), self._look)

    def _client_is_waited_for(self) -> tuple[object, float]:
        """What the client has to do next, None for nothing, and how many seconds it may take."""
        if self.transport.get_write_buffer_size():
            return ("take", self.cycle), self._limits.seconds
        if self.transport.is_closing():
            return "close", self._limits.seconds
        if self.conn.their_state is h11.IDLE:
            return ("head", self.cycle), self._limits.seconds
        if self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete:
            return ("rest", self.cycle), min(_LINGER, self._limits.seconds)
        return None, 0.0

    def _end(self, status: HTTPStatus, message: str) -> None:
        """Answer, unless an answer has begun, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = error_body(message)
            headers = [("Content-Type", "application/json"), ("Connection", "close")]
            headers.append(("Content-Length", str(len(body))))
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                headers += RETRY.items()
            response = h11.Response(status_code=status, headers=headers, reason=status.phrase)
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
            self._metrics.request("other", status, 0.0)
        self.transport.close()
