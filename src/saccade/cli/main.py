"""The command line: which command lives where, and how errors end. Commands are imported when called."""

import contextlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import FrameType

import cyclopts

import saccade
from saccade.errors import SaccadeError, Stopped
from saccade.shown import escape, one_line

COMMANDS = {
    "train": ("saccade.cli.train:train", "Train or fine-tune a model on a folder of images."),
    "eval": ("saccade.cli.evaluate:evaluate", "Measure a trained model's accuracy and write a report page."),
    "predict": ("saccade.cli.predict:predict", "Run a model over a folder of images at full speed."),
    "explain": ("saccade.cli.explain:explain", "Draw where a model looked in one picture."),
    "sparsify": (
        "saccade.cli.sparsify:sparsify",
        "Convert a vision transformer to a few semantic tokens, fine-tune and compare it.",
    ),
    "tokens": (
        "saccade.cli.tokens:tokens",
        "Draw which pixels each semantic token of an STViT stands for.",
    ),
    "export": ("saccade.cli.export:export", "Write a verified bundle: model, preprocessing and labels."),
    "bench": ("saccade.cli.bench:bench", "Measure models against each other on this machine."),
    "models": ("saccade.cli.models:app", "List the models with their cost and published accuracy."),
    "weights": ("saccade.cli.weights:app", "Convert, fetch and verify weights."),
    "data": ("saccade.cli.data:app", "Check, convert and split data."),
    "radar": ("saccade.cli.radar:app", "From a hand-held millimetre-wave scan to a sharp image."),
    "kinematics": (
        "saccade.cli.kinematics:app",
        "How far, how fast, which way: labels, questions about motion, and metrics for answers.",
    ),
    "vlm": (
        "saccade.cli.vlm:app",
        "Vision-language models that answer questions about motion: tune, ask, score.",
    ),
    "doctor": ("saccade.cli.doctor:doctor", "Say what is installed, what works here, and what does not."),
}


def build_app(called: str = "") -> cyclopts.App:
    """Register every command without importing any.

    Args:
        called: The command about to run. It goes without its one-line help, which would hide the longer one
            of its own docstring.
    """
    app = cyclopts.App(
        name="saccade",
        help="See fast: train, measure, verify and ship vision models that cost little on real machines.\n\n"
        "Example: saccade train --data photos/ --model shvit_s1",
        version=lambda: saccade.__version__,
        suppress_keyboard_interrupt=False,  # `main` says what happened and returns 130
        default_parameter=cyclopts.Parameter(negative=()),  # no --no-json
    )
    for name, (home, line) in COMMANDS.items():
        app.command(home, name=name, help=None if name == called else line)
    return app


def main(tokens: list[str] | None = None) -> int:
    """Run one command and return the process's exit code.

    0 done, 1 a check failed, 2 the user's error (one sentence, no traceback), 3 a fault of ours (one sentence, the
    traceback in a file), 130 interrupted, 143 terminated.
    `--debug` anywhere, or SACCADE_DEBUG=1, shows the traceback too.
    """
    tokens = list(sys.argv[1:] if tokens is None else tokens)
    debug = "--debug" in tokens or bool(os.environ.get("SACCADE_DEBUG"))
    tokens = [token for token in tokens if token != "--debug"]
    try:
        with _terminated_as_interrupted():
            build_app(tokens[0] if tokens else "")(
                tokens, exit_on_error=False, print_error=False, result_action="return_value"
            )
        return 0
    except SaccadeError as error:
        return _fail(str(error), error.exit_code, debug)
    except cyclopts.CycloptsError as error:
        return _fail(str(error), 2, debug)
    except KeyboardInterrupt as error:
        code = error.exit_code if isinstance(error, Stopped) else 130
        return _fail("interrupted" if code == 130 else "terminated", code, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(str(error), 2, debug)
    except Exception as error:
        return _fault(error, tokens, debug)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: files are closed and what is half written is removed."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not cut the tidying short
        raise Stopped(number)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread, where signals never arrive
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(sentence: str, code: int, debug: bool) -> int:
    """Print one sentence on stderr, the traceback before it when asked for."""
    if debug:
        traceback.print_exc()
    print(f"saccade: {one_line(sentence)}", file=sys.stderr)
    return code


def _fault(error: Exception, tokens: list[str], debug: bool) -> int:
    """Say that Saccade itself went wrong, and where the report for its makers is."""
    from saccade.cli.faults import write_fault

    if isinstance(error, MemoryError):
        kind = "the machine's memory was not enough, and Saccade did not foresee it"
    else:
        kind = f"this is a fault of Saccade, not yours ({type(error).__name__})"
    file = write_fault(error, tokens)
    where = f"the report is in {file}" if file else "run it again with --debug to see where"
    return _fail(f"{kind}: {where}; please send it with the issue", 3, debug)


def entry() -> None:
    """Run as a console script."""
    # Waiting OpenMP threads spin by default; beside one busy process on two cores that makes a training step five
    # times slower (2.6 s against 0.5 s). A spin this short costs nothing on a quiet machine (0.136 s either way).
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = "10000"
    # A warning can hold names of a stranger's tensors and files.
    plain = warnings.formatwarning
    warnings.formatwarning = lambda *args, **kwargs: escape(plain(*args, **kwargs), lines=True)
    sys.exit(main())
