"""Convert a checkpoint: see `python convert_d2.py --help`."""

from tfdetect.errors import run_command


def main() -> int:
    """Import the command and run it."""
    from convert_d2.command import main

    return main()


if __name__ == "__main__":
    run_command(main)
