from __future__ import annotations

import sys

from maze_runner.main import main

if __name__ == "__main__":
    sys.exit(main())
