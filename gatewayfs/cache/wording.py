"""The deadline of a call that waits for the bucket, and what the store and the disk refuse in a reader's words."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from gatewayfs.cache.live import NoRoom
from gatewayfs.cache.wholefiles import BucketMovedOn
from gatewayfs.errors import (
    Archived,
    CacheDiskFull,
    LocalError,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoreError,
    Unavailable,
)
from gatewayfs.runtime.diskhealth import DiskHealth


@contextmanager
def worded(deadline_s: float) -> Iterator[None]:
    """Around what a reader waits for: ends it after ``deadline_s``.

    Raises:
        BucketMovedOn, Archived, Unavailable: in the place of StoreErrors; Unavailable at the deadline.
    """
    try:
        with trio.fail_after(deadline_s):
            yield
    except trio.TooSlowError:
        raise Unavailable(f"no bytes from the bucket within {deadline_s:g} s") from None
    except (PreconditionFailed, ObjectNotFound, RangeNotSatisfiable) as problem:
        raise BucketMovedOn(str(problem)) from problem
    except ObjectArchived as problem:
        raise Archived(str(problem)) from problem
    except StoreError as problem:
        raise Unavailable(str(problem)) from problem


@contextmanager
def kept(health: DiskHealth) -> Iterator[None]:
    """Around what brings bytes to the cache disk. Raises NoRoom where it takes none, or turns out not to meanwhile."""
    if health.fit:
        try:
            with health.while_fit() as scope:
                yield
        except CacheDiskFull as problem:
            raise NoRoom(str(problem)) from problem
        except LocalError as problem:
            health.write_failed(problem)
            raise NoRoom(str(problem)) from problem
        if not scope.cancelled_caught:
            return
    raise NoRoom(health.reason)
