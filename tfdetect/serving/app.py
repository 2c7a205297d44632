"""The paths of a server, as an ASGI application."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from tfdetect.serving.answers import RETRY, Answer, Limits, Rejected, error_body
from tfdetect.serving.metrics import CONTENT_TYPE, Metrics

Detect = Callable[[bytes, str], Awaitable[Answer]]
"""Gets the content of an image file and the file name for its record; raises Rejected."""

_PATHS = "POST /predict, GET /model, /health, /health/live and /metrics"
_GONE = 499
"""As nginx logs a request whose client did not wait for the answer."""
_MOST_DIGITS = 18


class Application:
    """What a server answers.

    Args:
        limits: of what is accepted.
        metrics: where requests are counted.

    Attributes:
        state: what /health says: loading, ready, stopping, or why there is no model.
    """

    def __init__(self, limits: Limits, metrics: Metrics):
        self._limits = limits
        self._metrics = metrics
        self._detect: Detect | None = None
        self._model: Mapping[str, Any] = {}
        self._queued = 0
        self._bytes = 0
        self.state = "loading"
        routes = [
            Route("/predict", self._predict, methods=["POST"]),
            Route("/model", self._describe),
            Route("/health", self._ready),
            Route("/health/live", self._live),
            Route("/metrics", self._scrape),
        ]
        self._known = {route.path for route in routes}
        self._app = Starlette(
            routes=routes,
            exception_handlers={
                HTTPException: _http_error,
                Rejected: _rejected,
                Exception: _broken,
            },
        )
        self._app.router.redirect_slashes = False

    def serve(self, detect: Detect, model: Mapping[str, Any]) -> None:
        """From now on requests reach the model.

        Args:
            detect: the model.
            model: what /model says of it.
        """
        self._detect, self._model = detect, model
        self.state = "ready"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = time.monotonic(), 0

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            path = scope["path"] if scope["path"] in self._known else "other"
            self._metrics.request(path, status, time.monotonic() - start)

    async def _predict(self, request: Request) -> Response:
        if self._detect is None or self.state != "ready":
            raise Rejected(HTTPStatus.SERVICE_UNAVAILABLE, f"the server is not ready: {self.state}")
        _check_headers(request, self._limits.body)
        self._check_queue()
        content = bytearray()
        try:
            await self._receive(request, content)
            self._check_queue()
            return await self._answer(request, bytes(content))
        except ClientDisconnect:
            return Response(status_code=_GONE)
        finally:
            self._hold(-len(content))

    async def _receive(self, request: Request, content: bytearray) -> None:
        """Append the body to `content`."""
        try:
            await asyncio.wait_for(self._read(request, content), self._limits.seconds)
        except asyncio.TimeoutError as error:
            raise Rejected(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the request did not arrive within {self._limits.seconds:g} seconds",
            ) from error
        if not content:
            raise Rejected(HTTPStatus.BAD_REQUEST, "the body is empty; send an image file")

    async def _read(self, request: Request, content: bytearray) -> None:
        async for chunk in request.stream():
            if len(content) + len(chunk) > self._limits.body:
                raise _too_large(self._limits.body)
            if self._bytes + len(chunk) > self._limits.bodies:
                raise Rejected(
                    HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are arriving; try again"
                )
            content += chunk
            self._hold(len(chunk))

    def _hold(self, size: int) -> None:
        self._bytes += size
        self._metrics.bodies.set(self._bytes)

    def _check_queue(self) -> None:
        if self._queued >= self._limits.queue:
            raise Rejected(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{self._queued} requests are waiting; try again"
            )

    async def _answer(self, request: Request, content: bytes) -> Response:
        assert self._detect is not None
        file_name = request.query_params.get("file_name", "")
        work = asyncio.ensure_future(self._detect(content, file_name))
        gone = asyncio.ensure_future(_disconnect(request))
        self._queued += 1
        self._metrics.queue.set(self._queued)
        try:
            done, _ = await asyncio.wait(
                {work, gone}, timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._queued -= 1
            self._metrics.queue.set(self._queued)
            for task in (work, gone):
                task.cancel()
        if work in done:
            answer = work.result()
            self._metrics.answer(answer)
            return Response(answer.body, answer.status, media_type="application/json")
        if gone in done:
            return Response(status_code=_GONE)
        raise Rejected(
            HTTPStatus.GATEWAY_TIMEOUT,
            f"there was no result within {self._limits.seconds:g} seconds",
        )

    async def _describe(self, request: Request) -> Response:
        if self._detect is None:
            raise Rejected(HTTPStatus.SERVICE_UNAVAILABLE, f"the server is not ready: {self.state}")
        return JSONResponse(dict(self._model))

    async def _ready(self, request: Request) -> Response:
        if self.state == "ready":
            return JSONResponse({"status": self.state})
        return JSONResponse(
            {"status": self.state}, HTTPStatus.SERVICE_UNAVAILABLE, headers=dict(RETRY)
        )

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def _scrape(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)


def _check_headers(request: Request, most: int) -> None:
    """Reject what the head says already, before the body arrives."""
    headers = request.headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind in ("", "application/octet-stream") or kind.startswith("image/")):
        raise Rejected(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type {kind[:100]}: send the bytes of an image file as image/jpeg, image/png "
            "or another image/*, or as application/octet-stream",
        )
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Rejected(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding {encoding[:100]}: send the image file as it is",
        )
    length = headers.get("content-length")
    if length is not None and "transfer-encoding" in headers:
        raise Rejected(
            HTTPStatus.BAD_REQUEST, "Content-Length and Transfer-Encoding: send one of them"
        )
    if length is not None and (len(length) > _MOST_DIGITS or int(length) > most):
        raise _too_large(most)


def _too_large(most: int) -> Rejected:
    return Rejected(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body has more than {most} bytes; send a smaller file",
    )


async def _disconnect(request: Request) -> None:
    """Returns when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _rejected(request: Request, error: Exception) -> Response:
    assert isinstance(error, Rejected)
    body = error_body(str(error))
    return Response(body, error.status, error.headers, media_type="application/json")


def _http_error(request: Request, error: Exception) -> Response:
    """Of Starlette's routes: a wrong path or method."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:100]
    message = {
        HTTPStatus.NOT_FOUND: f"{path}: there is no such path; there are {_PATHS}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method[:20]} {path}: there are {_PATHS}",
    }.get(HTTPStatus(error.status_code), str(error.detail))
    return Response(
        error_body(message), error.status_code, error.headers, media_type="application/json"
    )


def _broken(request: Request, error: Exception) -> Response:
    text = " ".join(f"{type(error).__name__}: {error}".split())[:1000]
    print(f"error: {request.method} {request.url.path}: {text}", file=sys.stderr, flush=True)
    return Response(
        error_body("the server failed; see its output"),
        HTTPStatus.INTERNAL_SERVER_ERROR,
        media_type="application/json",
    )
