"""Convert a checkpoint: `tfdetect convert` from a checkout; see `python convert_d2.py --help`."""

from tfdetect.cli.main import main

if __name__ == "__main__":
    main("convert")
