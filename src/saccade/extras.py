"""Import optional packages in one place, so that a missing one is a sentence and not a traceback."""

import importlib
import sys
from types import ModuleType

from saccade.errors import MissingExtraError

# These report usage to their maker unless told otherwise; without the reporting package they report nothing.
_REPORTERS = {"openvino": "openvino_telemetry", "nncf": "openvino_telemetry"}


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional package or say which extra brings it.

    Usage reporting of the package is switched off first: its reporting module is marked as not installed.

    Args:
        module: Import path, such as "onnxruntime".
        extra: The extra in our package metadata that installs it.
        purpose: What it is needed for, as the end of "X is needed ...".

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The package is not installed.
    """
    if reporter := _REPORTERS.get(module.split(".")[0]):
        sys.modules.setdefault(reporter, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{module} is needed {purpose}; install it with: pip install 'saccade[{extra}]'"
        ) from None
