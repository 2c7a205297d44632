"""`python -m tfdetect.export`, which is the command `tfdetect export`."""

from tfdetect.cli.main import main

if __name__ == "__main__":
    main("export")
