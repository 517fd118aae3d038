"""The deadline of a call that waits for the bucket, and the store's refusals in a reader's words."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from gatewayfs.cache.wholefiles import BucketMovedOn
from gatewayfs.errors import (
    Archived,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoreError,
    Unavailable,
)


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
