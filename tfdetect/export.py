"""Write a SavedModel: see `python -m tfdetect.export --help`."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from tfdetect.errors import run_command
from tfdetect.serving.export_command import main


def _exit(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    # By default this signal ends Python on the spot, and what is half written would be left.
    signal.signal(signal.SIGTERM, _exit)
    run_command(main)
