"""Train a detector: see `python train.py --help`."""

from tfdetect.errors import run_command


def main() -> int:
    """Import the command and run it."""
    from convert_d2.libraries import importer
    from tfdetect.cli.train import main

    importer.register()
    return main()


if __name__ == "__main__":
    run_command(main)
