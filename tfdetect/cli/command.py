"""How a command starts, ends and reports errors."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from tfdetect.cli.signals import catch_interrupts
from tfdetect.cli.streams import output_failure, protect_streams
from tfdetect.errors import InputError


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit with its status.

    An `InputError` is one line and status 2. So is Ctrl-C one line, and its status 130 (SIGTERM:
    143, SIGHUP: 129), after unfinished files have been removed. stdout and stderr print any text
    and may be closed pipes (`protect_streams`); if what was printed is lost for another reason,
    such as a full disk, the status is 1.

    What takes long to import is imported by `main`, so that Ctrl-C works meanwhile.
    """
    protect_streams()
    catch_interrupts()
    status: object
    try:
        status = main()
    except SystemExit as end:  # argparse
        status = end.code
    except InputError as error:
        status = 2
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
    except KeyboardInterrupt as interrupt:
        status = getattr(interrupt, "status", 128 + signal.SIGINT)
        print(": ".join(filter(None, ["interrupted", str(interrupt)])), file=sys.stderr)
    failure = output_failure()
    if failure is not None:
        print(f"error: the output cannot be written ({failure.strerror})", file=sys.stderr)
    sys.exit(status or int(failure is not None))  # type: ignore[arg-type]
