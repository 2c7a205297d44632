"""What a request is answered with, and the limits of what is accepted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

RETRY = {"Retry-After": "1"}
"""Headers of an answer of status 503."""


@dataclass(frozen=True)
class Limits:
    """What a server accepts.

    Attributes:
        body: bytes in the body of a request.
        bodies: bytes in the bodies that are in memory at the same time.
        seconds: in which a request has to arrive, then has to be answered, and in which the client
            has to take the answer.
        queue: requests that are accepted and not answered.
        connections: open at the same time.
    """

    body: int
    bodies: int
    seconds: float
    queue: int
    connections: int


@dataclass(frozen=True)
class Answer:
    """Of the model to one image.

    Attributes:
        status: of HTTP.
        body: JSON, a record or an error.
        batch: images that went through the network together, in the answer to the first of them,
            otherwise 0.
        replica: the process that predicted, by its machine and number.
        memory: the bytes that this process has (its resident set).
    """

    status: int
    body: bytes
    batch: int = 0
    replica: str = ""
    memory: int = 0


class Rejected(Exception):
    """A request that is not carried out.

    Args:
        status: of HTTP.
        message: one line for the client.
    """

    def __init__(self, status: int, message: str):
        super().__init__(" ".join(message.split()))
        self.status = status

    @property
    def headers(self) -> dict[str, str] | None:
        """Which the answer needs besides."""
        return RETRY if self.status == HTTPStatus.SERVICE_UNAVAILABLE else None


def error_body(message: str) -> bytes:
    """The JSON of an answer that says what was wrong."""
    return json.dumps({"error": message}).encode()
