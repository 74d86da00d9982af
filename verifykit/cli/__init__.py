"""The command ``verifykit``: one file per command.

Exit status: 0 match (or done), 1 no match, 2 error, 130 interrupted. Results are written to standard
output, errors and progress to standard error.
"""

from __future__ import annotations

from verifykit._environment import escape_unprintable

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit the process with its status."""
    from verifykit.cli.app import app

    escape_unprintable()
    app(prog_name="verifykit")
