"""What stands around every handler of ``operations.py``.

A handler that raises anything but FUSEError would end pyfuse3's main loop and with it the mount, so every handler is
wrapped: errors raised on purpose become their errno, anything else is one EIO and one log record with a traceback
(promise P7).
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

import pyfuse3
import trio

from gatewayfs.errors import ReadOnlyShare
from gatewayfs.fuse.errnos import deserves_log, errno_of
from gatewayfs.runtime.diskhealth import DATA_WAIT_S, NAMES_WAIT_S, DiskHealth

log = logging.getLogger(__name__)

EIO = 5

_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[Any]])


class Guarded(Protocol):
    """What a class of handlers tells its guards. ``called`` is called before each."""

    called: Callable[[], None]
    read_only: bool
    disk: DiskHealth


def guarded(handler: _Handler) -> _Handler:
    """Wrap a handler so that no exception but FUSEError leaves it."""

    @functools.wraps(handler)
    async def wrapper(self: Guarded, *args: Any) -> Any:
        self.called()
        try:
            return await handler(self, *args)
        except (pyfuse3.FUSEError, trio.Cancelled):
            raise
        except Exception as problem:
            number = errno_of(problem)
            if number is None:
                log.exception("%s failed unexpectedly; the caller gets EIO", handler.__name__)
                number = EIO
            elif deserves_log(problem):
                log.warning("%s: %s", handler.__name__, problem)
            raise pyfuse3.FUSEError(number) from None

    return cast("_Handler", wrapper)


def changing(handler: _Handler) -> _Handler:
    """``guarded``, for a handler that changes a name or attributes: on a read-only share, or while the cache disk keeps
    nothing, it answers EROFS; for a disk that does not answer it waits a little."""
    return _gated(handler, NAMES_WAIT_S)


def writing(handler: _Handler) -> _Handler:
    """As ``changing``, for one that changes contents, which nobody else waits for: it has more patience."""
    return _gated(handler, DATA_WAIT_S)


def _gated(handler: _Handler, wait_s: float) -> _Handler:
    @functools.wraps(handler)
    async def wrapper(self: Guarded, *args: Any) -> Any:
        if self.read_only:
            raise ReadOnlyShare(handler.__name__)
        if not self.disk.takes_changes:
            await self.disk.admit(wait_s)
        return await handler(self, *args)

    return guarded(cast("_Handler", wrapper))
