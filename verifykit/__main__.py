"""``python -m verifykit`` is the command ``verifykit``."""

from __future__ import annotations

from verifykit.cli import main

if __name__ == "__main__":
    main()
