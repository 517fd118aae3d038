"""Entries of the queue and the states they go through.        [pure]

WAITING   in the due heap: settling, backing off, parked until tomorrow
READY     due; in a heap of its lane, oldest first: that of urgent ones, or that of all others
TAKEN     a worker has it
BLOCKED   until a key is free or another inode has been looked at
ASIDE     held, or excluded from upload (``staying.py``): until that changes, or at news
"""

from enum import Enum, IntEnum

import msgspec

Target = int | str
"""An inode number, or the key of a doomed object."""


class Aside(Enum):
    """Why an entry stays here on purpose (``staying.py``)."""

    HELD = "held"
    EXCLUDED = "excluded"


class State(Enum):
    """Where an entry is."""

    WAITING = "waiting"
    READY = "ready"
    TAKEN = "in flight"
    BLOCKED = "blocked"
    ASIDE = "aside"


class Lane(IntEnum):
    """Which workers an entry may have. Each kind has its own, so that none waits for another."""

    SMALL = 0
    """One request: files of one part, copies, deletions, looks."""
    BIG = 1
    """Several parts: seconds to minutes."""
    HUGE = 2
    """Hours, perhaps: several of these must not hold up what takes minutes."""
    DELETED = 3
    """Objects to be deleted, where one request can delete many: each worker only waits for its share of an answer."""


class Entry(msgspec.Struct, eq=False, gc=False):
    """One thing to look at. Times are seconds of trio's clock.

    There may be a million of them, and whatever CPython's garbage collector looks at, it looks at again and again, for
    half a second with 200,000, while no call is answered. Numbers and strings are no garbage it has to find, so it need
    not look at entries at all (``gc=False``): nothing in them may refer to an entry, directly or not.
    """

    target: Target
    age_s: float
    """Since when it waits: its place in its lane. Nothing but arriving in the bucket ends it."""
    first_s: float
    """The first change that is still to be uploaded: with it the longest settle time begins."""
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
    urgent: bool = False
    """A program waits for it, in fsync: it goes before what is older. Until it has arrived."""
    again: bool = False
    """News arrived while a worker had it."""
    lane: Lane = Lane.SMALL
    attempts: int = 0
    parked: bool = False
    error: str = ""
    blocked_on: Target | None = None
    aside: Aside | None = None
    aside_bytes: int = 0
    """Its size when it was set aside."""
    ticket: int = 0
    ready_ticket: int = 0
    taken_s: float = 0.0
    taken_urgent: bool = False
    """It was urgent when a worker took it."""
    unanswered_s: float = 0.0
    """When a request for it last found no store; 0: the store answered since."""
    doing: str = ""
