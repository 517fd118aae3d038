"""Which bytes of a large file will be read next. Pure.

A file is read by *streams*: a program reading from front to back, several of them, one that reads two places in turn.
A read belongs to the stream whose head is near, whichever handle it comes through: NFS servers open a file for each
call, and the kernel sends the requests of one ``read`` side by side, so they arrive a little out of order.

    a first read              its own bytes, in whole blocks; at the start of a file a little more
    reads that go on          a window ahead of the reader, four times what it has read so far, up to a maximum
    reads here and there      their own blocks, nothing else: strides and random access stay cheap

So a wrong guess never costs more than four times what was read (or ``WINDOW_BYTES_MIN``), and a reader at full speed
has several requests in flight after its first MiB. A stream that others have gone on without is given up, and what was
asked for it with it.
"""

from dataclasses import dataclass, field

Range = tuple[int, int]
"""Half-open, in bytes."""

BLOCK_BYTES = 256 << 10
"""What a lone read brings at least: 2 ms of a 1 Gbit/s line, a tenth of a round trip of 20 ms."""

FETCH_BYTES = 1 << 20
"""Smallest request of a reader in order: its 8 ms on that line are below one round trip, so less would hardly be
faster; and what the first read of a file brings, which is all of many files."""

REQUEST_BYTES_MAX = 8 << 20
"""Largest request: 1 ms of our CPU and one of the store's threads for 64 ms of that line."""

REACH_BYTES = 2 << 20
"""How far from a stream's head a read may start and still be of that stream. The kernel has a dozen requests in flight,
of 128 KiB each by default."""

SEQUENTIAL_BYTES = 128 << 10
"""Read in order so much, in two reads at least, and the next bytes are fetched ahead."""

WINDOW_FACTOR = 4

WINDOW_BYTES_MIN = 2 * FETCH_BYTES
"""So that the second request begins while the first is under way."""

WINDOW_REQUESTS = 8
"""Requests in a window. Half of them, by bytes, may be under way (``downloads``): requests that begin together share
the line and end together, and then a round trip would pass with nothing under way if that were all the window allows.
"""

STREAMS_MAX = 8
"""Streams of one file that are remembered."""

IDLE_READS_MAX = 2 * STREAMS_MAX
"""Reads elsewhere in the file after which a stream is given up: streams taking turns, in any order, never get there."""


@dataclass(slots=True)
class Stream:
    """One reader in order.

    Attributes:
        origin: where it began.
        head: end of the furthest byte read.
        bytes_read: by all its reads; less than three quarters of what lies between origin and head is a stride.
        asked: everything before was asked for.
        idle_reads: reads of other streams since its own latest.
    """

    origin: int
    head: int
    asked: int
    bytes_read: int = 0
    reads: int = 0
    idle_reads: int = 0

    @property
    def run_bytes(self) -> int:
        """How much it has read in order; 0 while it cannot be told from reads here and there."""
        span = self.head - self.origin
        if self.reads < 2 or self.bytes_read < SEQUENTIAL_BYTES or 4 * self.bytes_read < 3 * span:
            return 0
        return min(self.bytes_read, span)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one read.

    Attributes:
        demand: what to ask for if a byte of the read is absent and not asked for yet; contains the read.
        ahead: what to ask for besides, each range one request, in the order it will be needed.
        given_up: ranges asked for ahead that nobody is expected to read any more.
    """

    demand: Range
    ahead: list[Range] = field(default_factory=list)
    given_up: list[Range] = field(default_factory=list)


class ReadStreams:
    """The streams of one file."""

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        self._streams: list[Stream] = []  # latest first

    def __repr__(self) -> str:
        return f"<ReadStreams {self._streams}>"

    def follow(self, start: int, end: int, size: int, window_bytes_max: int, *, absent: bool) -> Plan:
        """Somebody reads ``[start, end)`` of a file of ``size`` bytes, ``start`` < ``end`` <= ``size``.

        Args:
            absent: some of it is not here yet.
            window_bytes_max: how far ahead of a reader to go at most; 0 for not at all.
        """
        stream = self._claimed(start)
        if stream is None:
            stream = Stream(start, start, start)
            self._streams.insert(0, stream)
        stream.reads += 1
        stream.bytes_read += end - start
        stream.head = max(stream.head, end)
        stream.idle_reads = 0
        given_up = self._others_wait(stream)
        window_bytes = min(WINDOW_FACTOR * stream.run_bytes, window_bytes_max)
        if stream.run_bytes and window_bytes_max:
            window_bytes = max(window_bytes, min(WINDOW_BYTES_MIN, window_bytes_max))
        demand = _demand(start, end, size, window_bytes)
        # A read past what was asked for, of bytes that are not here, asks for its demand.
        stream.asked = demand[1] if absent and end > stream.asked else max(stream.asked, end)
        return Plan(demand, _ahead(stream, size, window_bytes) if window_bytes else [], given_up)

    def _claimed(self, start: int) -> Stream | None:
        near = min(self._streams, key=lambda stream: abs(start - stream.head), default=None)
        if near is None or abs(start - near.head) > REACH_BYTES:
            return None
        self._streams.remove(near)
        self._streams.insert(0, near)
        return near

    def _others_wait(self, reading: Stream) -> list[Range]:
        given_up = []
        for stream in self._streams:
            if stream is reading:
                continue
            stream.idle_reads += 1
            if stream.idle_reads == IDLE_READS_MAX and stream.asked > stream.head:
                given_up.append((stream.head, stream.asked))
                stream.asked = stream.head
        while len(self._streams) > STREAMS_MAX:
            forgotten = self._streams.pop()
            if forgotten.asked > forgotten.head:
                given_up.append((forgotten.head, forgotten.asked))
        return given_up


def request_bytes(window_bytes: int) -> int:
    """How large the requests of a window are."""
    fraction = max(1, window_bytes // WINDOW_REQUESTS)
    return min(max(1 << fraction.bit_length() - 1, FETCH_BYTES), REQUEST_BYTES_MAX)


def _demand(start: int, end: int, size: int, window_bytes: int) -> Range:
    low = start // BLOCK_BYTES * BLOCK_BYTES
    high = -(-end // BLOCK_BYTES) * BLOCK_BYTES
    if window_bytes:
        high = max(high, low + min(request_bytes(window_bytes), window_bytes))
    elif start == 0:
        high = max(high, FETCH_BYTES)
    return low, max(end, min(high, size))


def _ahead(stream: Stream, size: int, window_bytes: int) -> list[Range]:
    """Whole requests that fit the window, and the rest of the file if that does."""
    request, limit = min(request_bytes(window_bytes), window_bytes), stream.head + window_bytes
    ranges = []
    while stream.asked < size and min(stream.asked + request, size) <= limit:
        piece_end = min(stream.asked + request, size)
        ranges.append((stream.asked, piece_end))
        stream.asked = piece_end
    return ranges
