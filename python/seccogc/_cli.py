"""The console script `seccogc`: the program itself."""

import signal
import sys
from typing import NoReturn

from seccogc import _native


def main() -> NoReturn:
    """Runs the program on the process's arguments."""
    # Ctrl-C ends it as it ends any program: Python would wait until the program is over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_native.cli(sys.argv))
