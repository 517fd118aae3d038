"""An exception becomes one line and an exit code; the traceback of an unexpected one goes to a file."""

import os
import tempfile
import traceback

from gatewayfs.cli import exitcodes
from gatewayfs.errors import GatewayError, StoreBusy, StoreUnreachable, UserError


def worded(error: UserError) -> str:
    """Message and cure in one line (a list of mistakes in one line each)."""
    return f"{error.message}; {error.cure}" if error.cure else error.message


def described(error: Exception) -> tuple[str, int]:
    """What to print for it, and the exit code."""
    error = sole(error)
    if isinstance(error, UserError):
        return worded(error), error.exit_code
    if isinstance(error, StoreUnreachable | StoreBusy):
        return f"the store cannot be reached: {error}; `gatewayfs doctor` looks closer", exitcodes.UNREACHABLE
    if isinstance(error, GatewayError):
        return str(error) or type(error).__name__, exitcodes.FAILURE
    kept = keep_traceback(error)
    return f"unexpected {type(error).__name__}; the traceback is in {kept}", exitcodes.FAILURE


def sole(error: Exception) -> Exception:
    """The one exception inside trio's groups of one, which only say through how many nurseries it came."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def keep_traceback(error: Exception) -> str:
    """Write the traceback to a file of its own, readable by this user only; returns its path."""
    handle, path = tempfile.mkstemp(prefix="gatewayfs-error-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        traceback.print_exception(error, file=file)
    return path
