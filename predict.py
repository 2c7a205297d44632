"""Detect objects in images: `tfdetect predict` from a checkout; see `python predict.py --help`."""

from tfdetect.cli.main import main

if __name__ == "__main__":
    main("predict")
