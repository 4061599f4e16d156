"""The examples as packages: their folder is where Python looks, and what they register is known."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from motion_demo import register

register()
