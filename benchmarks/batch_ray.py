"""Images per second of `tfdetect batch`: two workers of Ray against two plain processes.

Both predict the same list with one thread each. The rate is that of the parts after the first two,
so that loading the model and starting Ray do not count. Ends with status 1 if Ray's is below 0.95
of the plain one.

    python benchmarks/batch_ray.py --model DIR [--images 1200]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOAL = 0.95
PART = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a model directory")
    parser.add_argument("--images", type=int, default=1200, help="the demo's, again and again")
    args = parser.parse_args()
    files = sorted((ROOT / "demo" / "images").glob("*.jpg"))
    print(f"{args.images} images, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "list.txt"
        lines = [str(files[index % len(files)]) for index in range(args.images)]
        listed.write_text("\n".join(lines))
        command = ["--model", args.model, "--input", str(listed), "--threads", "1"]
        command += ["--images-per-file", str(PART)]
        plain, ray = Path(folder) / "plain", Path(folder) / "ray"
        shards = [[*command, "--output", str(plain), "--shard", f"{i}/2"] for i in (1, 2)]
        first = _rate(plain, shards)
        print(f"two processes: {first:.2f} images/s, load {os.getloadavg()[0]:.1f}", flush=True)
        on_ray = [*command, "--output", str(ray), "--engine", "ray", "--workers", "2"]
        second = _rate(ray, [on_ray])
        print(f"two workers of Ray: {second:.2f} images/s, load {os.getloadavg()[0]:.1f}")
    print(f"ratio: {second / first:.3f}, goal: at least {GOAL}")
    return int(second / first < GOAL)


def _rate(output: Path, commands: list[list[str]]) -> float:
    """Run commands at the same time; images per second of all of them together."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "tfdetect", "batch"]
    running = [subprocess.Popen([*start, *words], env=environment) for words in commands]
    statuses = [process.wait() for process in running]
    if any(statuses):
        sys.exit("a run has failed; its error is above")
    times = sorted(path.stat().st_mtime for path in output.glob("part-*"))[1:]
    return (len(times) - 1) * PART / (times[-1] - times[0])


if __name__ == "__main__":
    sys.exit(main())
