"""`python -m tfdetect`, which is the command `tfdetect`."""

from tfdetect.cli.main import main

if __name__ == "__main__":
    main()
