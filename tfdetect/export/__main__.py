"""Write a SavedModel: see `python -m tfdetect.export --help`."""

from __future__ import annotations

from tfdetect.cli.export import main
from tfdetect.errors import run_command

if __name__ == "__main__":
    run_command(main)
