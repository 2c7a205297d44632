"""Detect objects in images: see `python predict.py --help`."""

from tfdetect.errors import run_command


def main() -> int:
    """Import the command and run it."""
    from tfdetect.cli.predict import main

    return main()


if __name__ == "__main__":
    run_command(main)
