"""`python -m motion_demo`: the demonstration. `python -m motion_demo saccade ...`: Saccade with its tasks."""

import sys
from pathlib import Path

if not __package__:  # run as a folder: python examples/motion_demo
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from motion_demo.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
