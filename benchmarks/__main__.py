"""`python -m benchmarks`."""

from __future__ import annotations

# The load processes import this module anew, and need nothing of the command.
if __name__ == "__main__":
    from benchmarks.cli import main

    main()
