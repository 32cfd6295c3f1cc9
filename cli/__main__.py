"""`python -m cli`, for where the `tocsin` script is not installed."""

from __future__ import annotations

import sys

from cli.main import main

if __name__ == "__main__":
    sys.exit(main())
