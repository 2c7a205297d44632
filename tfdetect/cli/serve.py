"""Detect objects in images that are sent over HTTP: a server on Ray Serve."""

from __future__ import annotations

import argparse
import contextlib
import resource
from collections.abc import Callable, Sequence
from typing import TypeVar

from tfdetect.checkpoint.description import read_description
from tfdetect.cli.arguments import FILES, CommandParser, parse_with_opts
from tfdetect.cli.imports import import_user_modules
from tfdetect.cli.model import add_model_arguments, check_configuration, positive
from tfdetect.cli.ray_cluster import add_cluster_arguments, require_ray
from tfdetect.serving.answers import Limits

Number = TypeVar("Number", int, float)

_BODIES = 8
"""Bodies of the largest size that fit into memory together."""
_CONNECTIONS = 1000
"""Open at the same time; half of what the system lets a process open, if that is less."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Returns 0 if all that was accepted has been answered."""
    args = _parse(arguments)
    require_ray("tfdetect serve", "ray.serve", "uvicorn", "starlette", "prometheus_client")
    import_user_modules(args.imports)
    precision = check_configuration(args)
    read_description(args.model, args.opts, "--opts")
    from tfdetect.cli.serve_ray import replicas
    from tfdetect.serving.app import Application
    from tfdetect.serving.metrics import Metrics
    from tfdetect.serving.server import HttpServer, listen

    limits = Limits(
        body=args.max_body_megabytes * 10**6,
        bodies=_BODIES * args.max_body_megabytes * 10**6,
        seconds=args.timeout,
        queue=args.max_queue,
        connections=_connections(),
    )
    metrics = Metrics()
    application = Application(limits, metrics)
    server = HttpServer(application, listen(args.host, args.port), limits, metrics)
    server.start()
    print(f"{server.address}: loading {args.model}", flush=True)
    with replicas(args, precision) as found:
        application.serve(found.detect, found.model)
        print(f"{server.address}: ready", flush=True)
        try:
            with contextlib.closing(found.states()) as states:
                for state in states:
                    application.state = state
        except KeyboardInterrupt:
            server.stop()
    return 0


def _connections() -> int:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _CONNECTIONS if most == resource.RLIM_INFINITY else min(_CONNECTIONS, most // 2)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = CommandParser(
        "serve",
        "Answer HTTP requests: POST an image file to /predict, and get what the model finds in it "
        "as JSON, a record of what tfdetect predict --json writes. Requests that arrive together "
        "go through the network together. SIGINT or SIGTERM ends it when all accepted requests "
        "are answered, a second one at once.",
        (
            "--model models/mask_rcnn",
            "--model models/mask_rcnn --host 0.0.0.0 --port 80 --replicas 2 \\\n"
            "      --opts MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.3",
        ),
        "Anybody who can connect may use it: there are no passwords and no encryption. It listens "
        "on this machine only (127.0.0.1) unless --host says otherwise.",
    )
    files = parser.group(FILES)
    add_model_arguments(
        parser, proposals=False, json=False, batch_size="--max-batch-size", default_batch_size=8
    )
    files.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="NAME",
        help="address of this machine to listen on (default 127.0.0.1)",
    )
    files.add_argument(
        "--port",
        type=_within(int, 0, 2**16 - 1),
        default=8000,
        metavar="N",
        help="0 for any that is free (default 8000)",
    )
    files.add_argument(
        "--replicas",
        type=positive,
        metavar="N",
        help="processes that have the model (default: one for each GPU, or for each machine if "
        "there is none)",
    )
    files.add_argument(
        "--batch-wait",
        type=_within(float, 0, 60_000),
        default=5.0,
        metavar="MS",
        help="milliseconds for which an image waits for others to be predicted with (default 5)",
    )
    files.add_argument(
        "--max-body-megabytes",
        type=positive,
        default=32,
        metavar="N",
        help="size of an image file, 10^6 bytes; larger ones are rejected (default 32)",
    )
    files.add_argument(
        "--max-pixels",
        type=positive,
        default=2**26,
        metavar="N",
        help=f"height times width of an image (default {2**26}, 8192 x 8192)",
    )
    files.add_argument(
        "--timeout",
        type=_within(float, 0.1, 86_400),
        default=60.0,
        metavar="SECONDS",
        help="in which a request has to arrive, and then to be answered (default 60)",
    )
    files.add_argument(
        "--max-queue",
        type=positive,
        default=64,
        metavar="N",
        help="requests that wait for the model; further ones are rejected (default 64)",
    )
    add_cluster_arguments(files)
    return parse_with_opts(parser, arguments)


def _within(kind: type[Number], low: float, high: float) -> Callable[[str], Number]:
    """What argparse calls for a number from `low` to `high`."""

    def convert(text: str) -> Number:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}")
        return value

    convert.__name__ = kind.__name__  # argparse names it for what is not a number
    return convert
