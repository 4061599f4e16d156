"""From nothing to a scored video language model: a demonstration, and two tasks and eyes of one's own.

`register` tells Saccade of them; the names stand for code of this package only where this was called.
"""

from motion_demo.network import VARIANTS
from saccade.tasks import register_task
from saccade.vlm import register_eyes


def register() -> None:
    """Let Saccade know the tasks `motion` and `motion_answer` and the eyes `motion_small` and `motion_tiny`."""
    register_task("motion", "motion_demo.task:Motion")
    register_task("motion_answer", "motion_demo.answer_task:MotionAnswer")
    for encoder in VARIANTS:
        register_eyes(encoder, "motion_demo.eyes:ClipEyes")
