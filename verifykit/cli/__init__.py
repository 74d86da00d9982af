"""The command ``verifykit``: one file per verb.

Exit status: 0 match (or done), 1 no match, 2 error, 130 interrupted. Results go to standard output,
errors and progress to standard error.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave the process with its exit status."""
    from verifykit.cli.app import app

    app(prog_name="verifykit")
