"""A SavedModel under load: many requests of images of mixed sizes, from several threads at once.

Each request is one JPEG to the signature serving_default of the loaded SavedModel; every answer is
compared with the one that the same image got alone. Beside it: predict.py's way, one image after
the other. Each runs in a process of its own. Ends with status 1 if a request failed or got another
answer, or if memory grew by 2 % or more after the warm-up.

    python benchmarks/serve.py [--model DIR] [--ops portable] [--requests 1000] [--threads 8]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
DEMO = ROOT / "demo"
GROWTH = 0.02
# Every thread's pools and caches have their size after this share of as many requests more.
WARM_UP = 0.25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model directory (default: the demo's model)")
    parser.add_argument("--images", default=str(DEMO / "images"), help="a folder of JPEG files")
    parser.add_argument("--ops", choices=["portable", "native"], default="portable")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--child", choices=["servable", "predict.py"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(_measure(args)))
        return 0
    print(f"{args.requests} requests of one image, {args.threads} threads, {args.ops} operators")
    print(f"{os.cpu_count()} CPUs ({platform.processor() or platform.machine()})")
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or convert_demo(folder)
        servable = f"{folder}/servable"
        command = ["-m", "tfdetect.export", "--model", model, "--output", servable]
        _run([*command, "--ops", args.ops])
        print(f"{'':<11} {'images/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'errors':>7} {'RSS MB':>13}")
        report = _ask(args, "servable", f"{servable}/1")
        _print("servable", report)
        _print("predict.py", _ask(args, "predict.py", model))
    before, after = report["rss"]
    return 1 if report["errors"] or after >= before * (1 + GROWTH) else 0


def _print(name: str, report: dict) -> None:
    before, after = report["rss"]
    print(
        f"{name:<11} {report['throughput']:>9.1f} {report['p50'] * 1e3:>8.0f} "
        f"{report['p99'] * 1e3:>8.0f} {report['errors']:>7} {before:>6.0f} {after:>6.0f} "
        f"({after / before - 1:+.1%})",
        flush=True,
    )


def convert_demo(folder: str) -> str:
    """The demo's model, converted; gives its directory."""
    model, demo = f"{folder}/model", DEMO / "joint_rcnn"
    command = [str(ROOT / "convert_d2.py"), "--config-file", str(demo / "config.yaml")]
    command += ["--weights", str(demo / "model_final.pkl"), "--output", model]
    _run([*command, "--metadata", str(DEMO / "annotations.json")])
    return model


def _run(arguments: list[str]) -> str:
    """A command of this project's; its standard output."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments[:2])} has failed; its error is above")
    return done.stdout


def _ask(args: argparse.Namespace, child: str, model: str) -> dict:
    options = ["--ops", args.ops, "--requests", str(args.requests), "--images", args.images]
    options += ["--threads", str(args.threads), "--model", model, "--child", child]
    return json.loads(_run([__file__, *options]))


def _measure(args: argparse.Namespace) -> dict:
    """In a child: drive what `--child` names, in the directory `--model`."""
    from tfdetect.cli.quiet import import_tensorflow

    import_tensorflow()
    files = sorted(Path(args.images).glob("*.jpg"))[: args.requests]
    make, threads = {
        "servable": (_load_servable, args.threads),
        "predict.py": (_load_predictor, 1),
    }[args.child]
    detect = make(args.model, args.ops)
    alone = [detect(file) for file in files]

    def request(number: int) -> None:
        index = number % len(files)
        check_same(files[index].name, detect(files[index]), alone[index])

    drive(request, int(args.requests * WARM_UP), threads)
    before = _rss_mb()
    start = time.perf_counter()
    seconds, errors = drive(request, args.requests, threads)
    elapsed = time.perf_counter() - start
    return {
        "throughput": args.requests / elapsed,
        "p50": statistics.median(seconds),
        "p99": float(np.quantile(seconds, 0.99)),
        "errors": errors,
        "rss": [before, _rss_mb()],
    }


def drive(work: Callable[[int], None], requests: int, threads: int) -> tuple[list[float], int]:
    """Many requests from several threads.

    Args:
        work: makes the request of a number, from 0; what it raises is counted.
        requests: how many.
        threads: how many.

    Returns:
        The seconds of each that did not fail, and how many failed; the first are printed.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for request in range(requests):
        waiting.put(request)
    seconds: list[float] = []
    errors: list[str] = []

    def worker() -> None:
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            start = time.perf_counter()
            try:
                work(number)
            except Exception as error:
                errors.append(f"request {number}: {error}")
            else:
                seconds.append(time.perf_counter() - start)

    workers = [threading.Thread(target=worker) for _ in range(threads)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    for error in errors[:5]:
        print(error, file=sys.stderr)
    return seconds, len(errors)


def check_same(name: str, found: np.ndarray, alone: np.ndarray) -> None:
    """Raises ValueError where boxes and scores [D, 5] are not those that an image got alone."""
    if found.shape != alone.shape or np.abs(found - alone).max(initial=0) > 1e-4:
        raise ValueError(f"{name}: another answer than alone")


def _load_servable(path: str, ops: str) -> Callable[[Path], np.ndarray]:
    """Only the SavedModel, as a client without this project has it."""
    import tensorflow as tf

    if ops == "native":
        tf.load_op_library(f"{path}/assets/tfdetect_ops.so")
    servable = tf.saved_model.load(path)
    signature = servable.signatures["serving_default"]

    def detect(file: Path) -> np.ndarray:
        found = signature(image_bytes=tf.constant([file.read_bytes()]))
        count = int(found["num_detections"][0])
        boxes, scores = found["pred_boxes"][0, :count], found["scores"][0, :count]
        assert servable is not None  # the signature does not keep its variables alive
        return np.concatenate([boxes, scores[:, None]], 1)

    return detect


def _load_predictor(path: str, ops: str) -> Callable[[Path], np.ndarray]:
    from tfdetect.cli.heap import keep_freed_memory
    from tfdetect.data.images import read_image
    from tfdetect.inference.predictor import Predictor

    os.environ["TFDETECT_OPS"] = ops
    predictor = Predictor(path)
    keep_freed_memory()

    def detect(file: Path) -> np.ndarray:
        found = predictor(read_image(file))
        return np.concatenate([found.boxes, found.scores[:, None]], 1)

    return detect


def _rss_mb() -> float:
    """The memory that this process has now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
