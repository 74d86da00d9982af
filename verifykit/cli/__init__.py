"""The command ``verifykit``: one file per command.

Exit status: 0 match (or done), 1 no match, 2 error, 130 interrupted. Results are written to standard
output, errors and progress to standard error.
"""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit the process with its status."""
    from verifykit.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot show must not turn a result into an error.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="verifykit")
