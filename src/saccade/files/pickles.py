"""The one reader of pickles: as data, by a machine of our own that knows plain values and the names it is given.

A pickle is a program for a stack machine. Python's own runs whatever the program names; this one makes lists,
dictionaries, tuples, numbers, text and bytes, and calls what the caller listed, nothing else. Steps and length
are bounded: `pickletools` only splits the program.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

from saccade.errors import DataError, SaccadeError

MAX_BYTES = 64 << 20
"""Of one program, without the tensors beside it."""
MAX_STEPS = 3_000_000
"""Opcodes; a state dict takes some thirty a tensor."""

Find = Callable[[str, str], Any]
"""From a module and a name to a callable or stand-in; raises ValueError, with the reason, to refuse it."""


class Refused(ValueError):
    """A name or step that is understood and not allowed; what else is wrong with a program is a plain ValueError."""


def read_pickle(
    data: bytes | io.BytesIO,
    *,
    where: str,
    find: Find,
    build: Callable[[Any, Any], None] = lambda value, state: None,
    outside: Callable[[Any], Any] | None = None,
    error: type[SaccadeError] = DataError,
) -> Any:
    """Read one pickle.

    Args:
        data: The program; of a stream, the part from its position, which is then just behind the program.
        where: Origin, for sentences.
        find: What names stand for.
        build: Given a value and the state that the program sets on it; by default the state is dropped.
        outside: Given the key of something that is kept beside the program; by default there is no such thing.
        error: Class of the sentences.

    Raises:
        SaccadeError: Of class `error`: damaged, too long, or with steps or names that are not allowed.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        return _Machine(find, build, outside).run(stream)
    except SaccadeError:
        raise
    except Refused as problem:
        raise error(f"{where}: refused, {problem}") from None
    # A damaged program can raise nearly anything, out of `pickletools` or out of a value's own methods.
    except Exception as problem:
        reason = " ".join(str(problem).split())[:120] or type(problem).__name__
        raise error(f"{where}: not a readable pickle ({reason})") from None


class _Machine:
    """The stack, the metrics and the memo of one program."""

    def __init__(self, find: Find, build: Callable[[Any, Any], None], outside: Any) -> None:
        self.find, self.build, self.outside = find, build, outside
        self.stack: list[Any] = []
        self.metrics: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: io.BytesIO) -> Any:
        """Take every step up to the end of the program."""
        start = stream.tell()
        for steps, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if steps > MAX_STEPS or stream.tell() - start > MAX_BYTES:
                raise Refused(f"it takes more than {MAX_STEPS:,} steps or {MAX_BYTES >> 20} MiB")
            if code.name == "STOP":
                return self.pop()
            self.step(code.name, argument)
        raise ValueError("it has no end")

    def step(self, name: str, argument: Any) -> None:
        """Take one step."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, what = argument.split(" ", 1) if name == "GLOBAL" else self.take(2)
            if not isinstance(module, str) or not isinstance(what, str):
                raise Refused("it names something that is no text")
            self.stack.append(self.find(module, what))
        else:
            method = _STEPS.get(name)
            if method is None:
                raise Refused(f"it has a step {name}, which stored values do not need")
            method(self)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def take(self, count: int) -> list[Any]:
        """Take values off the stack, in their order."""
        if len(self.stack) < count:
            raise ValueError("it takes more than there is")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def mark(self) -> None:
        self.metrics.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """Take everything since the last mark."""
        taken, self.stack = self.stack, self.metrics.pop()
        return taken

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it adds to what is no list")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("it sets entries of what is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[checked_key(key)] = value

    def add(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], set):
            raise ValueError("it adds to what is no set")
        self.stack[-1].update(map(checked_key, values))

    def new_dict(self, values: list[Any]) -> None:
        self.stack.append({})
        self.set_items(values)

    def call(self, keywords: bool = False) -> None:
        """Call what `find` gave; values of any other kind have nothing to call."""
        named = self.pop() if keywords else {}
        function, arguments = self.take(2)
        if not isinstance(arguments, tuple) or not callable(function) or named:
            raise Refused("it calls something that may not be called")
        self.stack.append(function(*arguments))

    def set_state(self) -> None:
        state = self.pop()
        self.build(self.stack[-1], state)

    def fetch(self) -> None:
        key = self.pop()
        if self.outside is None:
            raise Refused("it names something outside")
        self.stack.append(self.outside(key))


def checked_key(key: Any) -> Any:
    """Allow keys that hash in no time: of a tuple in a tuple in a tuple each step could double the work."""
    parts = key if isinstance(key, tuple) else (key,)
    if all(
        isinstance(part, str | bytes | float | None) or (isinstance(part, int) and abs(part) < 1 << 64)
        for part in parts
    ):
        return key
    raise Refused(f"it has a key of type {type(key).__name__}")


_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_STEPS: dict[str, Callable[[_Machine], Any]] = {
    "MARK": _Machine.mark,
    "POP": lambda m: m.pop() if m.stack else m.marked(),
    "POP_MARK": _Machine.marked,
    "DUP": lambda m: m.push(m.stack[-1]),
    "TUPLE": lambda m: m.push(tuple(m.marked())),
    "TUPLE1": lambda m: m.push(tuple(m.take(1))),
    "TUPLE2": lambda m: m.push(tuple(m.take(2))),
    "TUPLE3": lambda m: m.push(tuple(m.take(3))),
    "LIST": lambda m: m.push(list(m.marked())),
    "APPEND": lambda m: m.append(m.take(1)),
    "APPENDS": lambda m: m.append(m.marked()),
    "DICT": lambda m: m.new_dict(m.marked()),
    "SETITEM": lambda m: m.set_items(m.take(2)),
    "SETITEMS": lambda m: m.set_items(m.marked()),
    "ADDITEMS": lambda m: m.add(m.marked()),
    "FROZENSET": lambda m: m.push(frozenset(map(checked_key, m.marked()))),
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": lambda m: m.call(keywords=True),
    "BUILD": _Machine.set_state,
    "BINPERSID": _Machine.fetch,
}
