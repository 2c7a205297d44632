"""Train a detector: see `python train.py --help`."""

from tfdetect.engine.command import main
from tfdetect.errors import run_command

if __name__ == "__main__":
    run_command(main)
