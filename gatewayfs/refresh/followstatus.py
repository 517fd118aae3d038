"""What ``status`` shows of a followed bucket."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FollowStatus:
    """How it goes.

    Attributes:
        received: messages, since the start, those that came twice each time.
        applied: messages that led to a look, or needed none.
        ignored: parts of messages about other buckets, other prefixes, or nothing that is shown here.
        bad: messages that are no notifications.
        refused: keys that the store refused to show.
        given_up: keys of which a change made here was on its way for too long: the next refresh finds what it is.
        held: messages in hand.
        lag_s: from sending to applying, of the latest message that was applied.
        failing_since_ns: since when the queue cannot be used, or the bucket does not answer; 0: all is well.
    """

    queue: str
    received: int
    applied: int
    ignored: int
    bad: int
    refused: int
    given_up: int
    held: int
    lag_s: float
    failing_since_ns: int
    last_error: str
