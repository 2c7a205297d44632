"""Write a SavedModel: see `python -m tfdetect.export --help`."""

from __future__ import annotations

from tfdetect.errors import run_command
from tfdetect.serving.export_command import main

if __name__ == "__main__":
    run_command(main)
