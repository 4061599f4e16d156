"""The configuration: typed dataclasses whose annotations say what is allowed; YAML, dotted flags and Python alike."""

from saccade.settings.fields import assign, check, coerce, dump, leaves, make, to_plain, update
from saccade.settings.flags import read_flags, read_groups

__all__ = [
    "assign",
    "check",
    "coerce",
    "dump",
    "leaves",
    "make",
    "read_flags",
    "read_groups",
    "to_plain",
    "update",
]
