"""Detect objects in images: see `python predict.py --help`."""

from tfdetect.errors import run_command
from tfdetect.serving.command import main

if __name__ == "__main__":
    run_command(main)
