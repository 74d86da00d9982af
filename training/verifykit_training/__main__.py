"""``python -m training``: the command ``verifykit-train``."""

from __future__ import annotations

from verifykit_training.cli import main

if __name__ == "__main__":
    main()
