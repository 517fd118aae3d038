"""Which task runs first: trio shuffles those that are ready, and a program may be right in one order only.

Importing hypothesis makes the shuffling depend on one seed and on nothing else (trio brings a plugin for it); inside a
hypothesis test the seed is always the same unless somebody chooses another one.
"""

import hypothesis
from trio._core import _run


def choose_schedule(number: int) -> None:
    """From here on tasks take turns as they do every time after this call with the same ``number``."""
    assert _run._ALLOW_DETERMINISTIC_SCHEDULING, f"hypothesis {hypothesis.__version__} did not load trio's plugin"
    _run._r.seed(number)


__all__ = ["choose_schedule"]
