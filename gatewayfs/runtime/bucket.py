"""The token bucket: how many bytes may pass by when. Pure arithmetic on times handed in; no clock, no waiting.

Bytes are laid end to end as they are *booked*; the rate *pays* for them in that order. A booking may pass once all of
it is paid. So waiting is first come, first served whatever the sizes, and a later booking never delays an earlier one.
While nobody wants to pass, the rate pays ahead, at most ``BURST_S`` worth. In any stretch of ``t`` seconds therefore at
most ``rate * (t + BURST_S)`` booked bytes get paid, and while somebody always waits no payment is lost as long as
waiters are less than ``BURST_S`` late. Over ten seconds that is a mean between 0 and 2 % above the rate.

What must not wait (answers without a body) is *taken*: it passes at once and later bookings wait for it. It is charged
at most half of the rate in the long run and ``DEBT_S`` worth at a time, so that it slows bodies down but never stops
them; only traffic that exceeds this by itself exceeds the limit.
"""

from dataclasses import dataclass

BURST_S = 0.2
"""What an idle limit saves up. A loaded machine wakes threads tens of milliseconds late; ten seconds gain 2 %."""

DEBT_S = 2.0

_CLOSE_ENOUGH_BYTES = 0.5
"""Half a byte: waiting for rounding errors of the clock would never end."""


@dataclass(frozen=True, slots=True)
class Booking:
    """A place in the line: the point up to which must be paid, in a line that a change of the rate ends."""

    until_bytes: float
    length_bytes: int
    line: int


class TokenBucket:
    """One limit. ``rate`` is in bytes per second, None for none.

    Args:
        now_s: the time; all times are of one clock that never goes back.
    """

    __slots__ = ("_at_s", "_booked", "_line", "_paid", "_rate", "_taken")

    def __init__(self, now_s: float) -> None:
        self._rate: float | None = None
        self._at_s = now_s
        self._booked = 0.0
        self._paid = 0.0
        self._taken = 0.0
        self._line = 0

    def __repr__(self) -> str:
        return f"<TokenBucket {self._rate} bytes/s, {self._booked - self._paid:.0f} bytes owed>"

    @property
    def rate(self) -> float | None:
        return self._rate

    def set_rate(self, rate: float | None, now_s: float) -> None:
        """Change the rate: a new line begins, without savings or debts; those who wait book again."""
        if rate != self._rate:
            self._rate, self._at_s = rate, now_s
            self._booked = self._paid = self._taken = 0.0
            self._line += 1

    def book(self, length_bytes: int, now_s: float) -> Booking:
        """Take the next place in the line. 0 bytes: wait for those before, take nothing."""
        self._pay(now_s)
        self._booked += length_bytes
        return Booking(self._booked, length_bytes, self._line)

    def wait_s(self, booking: Booking, now_s: float) -> float | None:
        """Return how long the booking has to wait from now on; None when its line has ended."""
        if booking.line != self._line:
            return None
        self._pay(now_s)
        owed = booking.until_bytes - self._paid
        return 0.0 if self._rate is None or owed <= _CLOSE_ENOUGH_BYTES else owed / self._rate

    def take(self, length_bytes: int, now_s: float) -> None:
        """Pass at once; later bookings wait for it."""
        self._pay(now_s)
        if self._rate is not None:
            charged = min(length_bytes, DEBT_S * self._rate - self._taken)
            self._taken += charged
            self._booked += charged

    def give_back(self, line: int, unused_bytes: int, now_s: float) -> None:
        """Some of what was booked in ``line`` is not used after all; of a line that has ended nothing is left."""
        self._pay(now_s)
        if line == self._line:
            self._booked -= unused_bytes
            self._cap()

    def _pay(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self._at_s)
        self._at_s += passed_s
        if self._rate is None:
            self._paid = self._booked
            return
        self._paid += passed_s * self._rate
        self._taken = max(0.0, self._taken - passed_s * self._rate / 2)
        self._cap()

    def _cap(self) -> None:
        if self._rate is not None:
            self._paid = min(self._paid, self._booked + BURST_S * self._rate)
