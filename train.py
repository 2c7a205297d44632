"""Train a detector: `tfdetect train` from a checkout; see `python train.py --help`."""

from tfdetect.cli.main import main

if __name__ == "__main__":
    main("train")
