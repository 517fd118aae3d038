"""Entries of the queue and the states they go through.        [pure]

WAITING   in the due heap: settling, backing off, parked until tomorrow
READY     due; in the heap of its lane, oldest first
TAKEN     a worker has it
BLOCKED   until a key is free or another inode has been looked at
"""

from dataclasses import dataclass
from enum import Enum

Target = int | str
"""An inode number, or the key of a doomed object."""


class State(Enum):
    """Where an entry is."""

    WAITING = "waiting"
    READY = "ready"
    TAKEN = "in flight"
    BLOCKED = "blocked"


@dataclass(slots=True, eq=False)
class Entry:
    """One thing to look at. Times are seconds of trio's clock."""

    target: Target
    first_s: float
    """When the change that is still to be uploaded was first noticed."""
    last_s: float
    not_before_s: float = 0.0
    """Back-off: news cannot shorten it."""
    pause_s: float = 0.0
    """A pause that news end."""
    heap_s: float = float("inf")
    """Its earliest valid place in the due heap."""
    state: State = State.WAITING
    forced: bool = False
    """Skips settle times: a drain, or somebody waits for it."""
    again: bool = False
    """News arrived while a worker had it."""
    big: bool = False
    attempts: int = 0
    parked: bool = False
    error: str = ""
    blocked_on: Target | None = None
    ticket: int = 0
    ready_ticket: int = 0
    size_bytes: int = 0
    taken_s: float = 0.0
    doing: str = ""
