"""Places where a test may stop, break or kill the program, in before/after pairs around every durable step.

``GATEWAYFS_FAILPOINTS="meta.commit.after:3=kill,meta.sync.before=error"`` arms them; unset, a failpoint costs one
look into an empty dictionary. ``FAILPOINTS`` is the list of all, so that a crash test can visit every one and a
misspelt name is refused at start instead of silently testing nothing.

Actions, taken at the n-th hit (default: the first) and only then:

* ``kill``   SIGKILL to ourselves: what the page cache holds survives, nothing else.
* ``error``  OSError EIO, as a failing disk would answer (only ``.before`` a step).
* ``full``   OSError ENOSPC (only ``.before`` a step).
* ``pause``  SIGSTOP to ourselves; the test looks around and sends SIGCONT (or SIGKILL).
"""

import errno
import os
import signal
import threading
from dataclasses import dataclass

from gatewayfs.errors import UserError

VARIABLE = "GATEWAYFS_FAILPOINTS"

ACTIONS = ("kill", "error", "full", "pause")

FAILPOINTS: dict[str, str] = {}
"""Name -> what is durable at that point, in one line. Filled by ``register`` when the modules are imported."""


@dataclass
class _Armed:
    action: str
    hits_left: int


_armed: dict[str, _Armed] = {}
_mutex = threading.Lock()


def register(name: str, durable: str) -> str:
    """Declare the failpoint ``name``; ``durable`` says in one line what has survived when it is reached."""
    assert FAILPOINTS.get(name, durable) == durable, f"two failpoints are called {name}"
    FAILPOINTS[name] = durable
    return name


def failpoint(name: str) -> None:
    """Do what is armed for this point: nearly always nothing. May raise OSError (``error``, ``full``)."""
    if _armed:
        _hit(name)


def _hit(name: str) -> None:
    with _mutex:
        armed = _armed.get(name)
        if armed is None:
            return
        armed.hits_left -= 1
        if armed.hits_left != 0:
            return
        del _armed[name]
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed.action == "pause":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif armed.action == "full":
        raise OSError(errno.ENOSPC, f"failpoint {name}")
    else:
        raise OSError(errno.EIO, f"failpoint {name}")


def arm(specification: str) -> None:
    """Replace what is armed by ``specification`` (the format of the environment variable; "" disarms all).

    Raises UserError for an unknown action or a count that is no positive number. Names are not checked here, since
    the module that registers one may be imported later: ``unknown_names`` does that once everything is.
    """
    parsed: dict[str, _Armed] = {}
    for item in filter(None, (part.strip() for part in specification.split(","))):
        place, _, action = item.partition("=")
        name, _, count = place.partition(":")
        if action not in ACTIONS:
            raise UserError(f"{VARIABLE}: {item!r} has no action", f"write name[:n]=ACTION, ACTION one of {ACTIONS}")
        if count and not (count.isdigit() and int(count) > 0):
            raise UserError(f"{VARIABLE}: {count!r} is no count", "write name:3=kill for the third hit")
        if action in ("error", "full") and name.endswith(".after"):
            raise UserError(f"{VARIABLE}: {name} comes after the step, which cannot fail any more", "use .before")
        parsed[name] = _Armed(action, int(count or "1"))
    with _mutex:
        _armed.clear()
        _armed.update(parsed)


def unknown_names() -> list[str]:
    """Armed names that no imported module has registered."""
    return sorted(name for name in _armed if name not in FAILPOINTS)


arm(os.environ.get(VARIABLE, ""))
