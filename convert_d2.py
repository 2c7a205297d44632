"""Convert a Detectron2 checkpoint: see `python convert_d2.py --help`."""

from convert_d2.command import main
from tfdetect.errors import run_command

if __name__ == "__main__":
    run_command(main)
