"""How much of the disk one cache may use; ``daemon.storing`` works it out."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the disk the contents may use.

    Attributes:
        size_bytes: of packs and sparse files together.
        free_bytes_min: what the disk shall keep free; 0 does not look.
        dirty_bytes_max: of ``size_bytes``, what may wait to be uploaded.
        reserve_bytes: kept for the records should the disk fill up; 0: nothing.
    """

    size_bytes: float = math.inf
    free_bytes_min: int = 0
    dirty_bytes_max: float = math.inf
    reserve_bytes: int = 0
