"""Which cached bytes go first.        [pure]

S3-FIFO (Yang et al., SOSP 2023): three queues and two bits per entry instead of one long LRU list. What is new waits in
a *small* queue (a tenth of the bytes). What is used again before it reaches the end goes on to the *main* queue; the
rest leaves, and only its name stays for a while in the *ghost* list: should it come back soon, it goes straight to
main. So one pass of tar over a big tree flows through the small queue, and the working set in main never notices. Main
is a clock: an entry used since its last turn gets another one.

                 used again                   not used since
    new ──> small ─────────> main <─┐ used    ──────────────> gone
              │                 └───┘
              └── not used ──> gone, its name to ghost ── comes back ──> main

Entries that must stay (dirty, pinned, on their way to the bucket) are counted here but are in no queue, so a million of
them cost a search for a victim nothing. Every step is O(1): queues are linked lists in arrays. An entry costs 141 bytes
of memory (measured with a million; 25 in the arrays, the rest in the index) and 1.4 us to add.
"""

import enum
from array import array
from collections.abc import Iterator

SMALL_SHARE = 0.1
"""The small queue's share of what may go. The paper finds 10 % good on nearly every trace."""

USES_MAX = 3
"""Two bits of use: an entry survives at most so many turns of the clock without being used."""

GHOSTS_MAX = 1 << 17
"""Names remembered at most (12 MiB): enough for a scan that is a few times as large as the small queue."""

_COLD = 1 << 6
"""Of an entry's flags: nobody has asked for it yet."""

NOWHERE = 0
"""Slot 0 holds no entry: the end of every list."""


class Hold(enum.IntEnum):
    """May an entry go?"""

    FREE = 0
    """Its bytes are in the bucket as well."""
    KEPT = 1
    """As FREE, but somebody wants them here, or work on the object is pending."""
    DIRTY = 2
    """The only copy."""
    PINNED = 3
    """As FREE, but somebody wants it here for good."""


class _Queue(enum.IntEnum):
    NONE = 0
    SMALL = 1
    MAIN = 2


class Eviction:
    """Entries with sizes, and who goes next.

    A key is any positive integer below 2**64; a size is bytes below 2**32.
    """

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}
        self._keys, self._next, self._previous = array("Q", [0]), array("I", [0]), array("I", [0])
        self._sizes = array("I", [0])
        self._flags = bytearray(1)  # queue | hold << 2 | uses << 4 | cold << 6
        self._unused = NOWHERE
        self._heads, self._tails = [NOWHERE] * 3, [NOWHERE] * 3
        self._queued = [0, 0, 0]
        self._held = [0] * len(Hold)
        self._ghosts: dict[int, None] = {}

    def __repr__(self) -> str:
        return f"<Eviction {len(self)} entries, {self._queued[1]} + {self._queued[2]} of {self.total_bytes} may go>"

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[int]:
        return iter(self._slots)

    def __contains__(self, key: int) -> bool:
        return key in self._slots

    @property
    def total_bytes(self) -> int:
        """Of all entries."""
        return sum(self._held)

    def held_bytes(self, hold: Hold) -> int:
        """Of the entries with that hold."""
        return self._held[hold]

    def size(self, key: int) -> int:
        """Bytes of an entry; 0 when there is none."""
        return self._sizes[self._slots.get(key, NOWHERE)]

    def hold(self, key: int) -> Hold:
        """Whether an entry may go; FREE when there is none."""
        return Hold(self._flags[self._slots.get(key, NOWHERE)] >> 2 & 3)

    def put(self, key: int, size: int, hold: Hold = Hold.FREE, *, cold: bool = False) -> None:
        """Add an entry, or change its size and hold. Size 0 removes it.

        Args:
            cold: nobody has asked for it yet (read ahead): a new entry is the next to go until it is used. Its first
                use makes it what it would be had it come then, so a walk over a tree fetched ahead is a scan, too.
        """
        if size <= 0:
            self.remove(key)
            return
        slot = self._slots.get(key)
        if slot is None:
            self._add(key, size, hold, cold)
            return
        flags = self._flags[slot]
        queue, old_hold = flags & 3, flags >> 2 & 3
        difference = size - self._sizes[slot]
        self._sizes[slot] = size
        if old_hold == hold:
            self._held[hold] += difference
            self._queued[queue] += difference
            return
        self._held[old_hold] -= size - difference
        self._held[hold] += size
        if queue:
            self._queued[queue] += difference
            self._unlink(slot, queue)
        self._flags[slot] = flags & ~0b1111 | hold << 2
        if hold is Hold.FREE:
            # What was used while it had to stay has shown that it belongs to the working set.
            self._append(slot, _Queue.MAIN if flags >> 4 & USES_MAX else _Queue.SMALL)

    def remove(self, key: int, *, remember: bool = False) -> None:
        """Forget an entry; with ``remember`` it has a good place when it comes back soon."""
        if remember:
            self._ghosts[key] = None
            if len(self._ghosts) > GHOSTS_MAX:
                self._forget_ghosts()
        slot = self._slots.pop(key, None)
        if slot is None:
            return
        flags = self._flags[slot]
        if flags & 3:
            self._unlink(slot, flags & 3)
        self._held[flags >> 2 & 3] -= self._sizes[slot]
        self._keys[slot] = self._sizes[slot] = self._flags[slot] = 0
        self._next[slot], self._unused = self._unused, slot

    def touch(self, key: int) -> bool:
        """An entry was used; returns whether it is here."""
        slot = self._slots.get(key)
        if slot is None:
            return False
        flags = self._flags[slot]
        if flags & _COLD:
            self._flags[slot] = flags & ~_COLD
            if flags & 3 == _Queue.SMALL:
                self._unlink(slot, _Queue.SMALL)
                self._append(slot, _Queue.SMALL)
        elif flags >> 4 < USES_MAX:
            self._flags[slot] = flags + (1 << 4)
        return True

    def victim(self) -> int | None:
        """The key that should go next, or None when nothing may. Whoever cannot let it go says ``spare``."""
        while True:
            small, main = self._heads[_Queue.SMALL], self._heads[_Queue.MAIN]
            may_go = self._queued[_Queue.SMALL] + self._queued[_Queue.MAIN]
            if small and (not main or self._queued[_Queue.SMALL] > SMALL_SHARE * may_go):
                if not self._flags[small] >> 4 & USES_MAX:
                    return self._keys[small]
                self._move(small, _Queue.SMALL, uses=0)
            elif main:
                uses = self._flags[main] >> 4 & USES_MAX
                if not uses:
                    return self._keys[main]
                self._move(main, _Queue.MAIN, uses=uses - 1)
            else:
                return None

    def spare(self, key: int) -> None:
        """The victim is in use just now: it goes to the end of main."""
        slot = self._slots.get(key)
        if slot is not None and (queue := self._flags[slot] & 3):
            self._move(slot, queue, uses=0)

    def check(self) -> None:
        """Raise ValueError when the books do not balance."""
        held = [0] * len(Hold)
        for slot in self._slots.values():
            held[self._flags[slot] >> 2 & 3] += self._sizes[slot]
        if held != self._held:
            raise ValueError(f"held {self._held}, should be {held}")
        if any(key in self._slots for key in self._ghosts):
            raise ValueError("a ghost is alive")
        seen = 0
        for queue in (_Queue.SMALL, _Queue.MAIN):
            slots = list(self._walk(queue))
            seen += len(slots)
            if any(self._flags[slot] & 0b1111 != queue for slot in slots):
                raise ValueError(f"an entry in {queue.name} does not belong there")
            if sum(self._sizes[slot] for slot in slots) != self._queued[queue]:
                raise ValueError(f"{queue.name} holds {self._queued[queue]} by its book, not by its entries")
        if seen != sum(1 for slot in self._slots.values() if not self._flags[slot] >> 2 & 3):
            raise ValueError("an entry that may go is in no queue")

    # ------------------------------------------------------------------ inside

    def _add(self, key: int, size: int, hold: Hold, cold: bool) -> None:
        slot = self._unused
        if slot:
            self._unused = self._next[slot]
        else:
            slot = len(self._keys)
            for column in (self._keys, self._next, self._previous, self._sizes):
                column.append(0)
            self._flags.append(0)
        self._slots[key] = slot
        self._keys[slot], self._sizes[slot], self._flags[slot] = key, size, hold << 2
        self._held[hold] += size
        returning = key in self._ghosts
        if returning:
            del self._ghosts[key]
        if hold is not Hold.FREE:
            # Two bits of use would take it to main once it may go; a ghost that came back has earned that.
            self._flags[slot] |= returning << 4
        elif cold:
            self._flags[slot] |= _COLD
            self._prepend(slot, _Queue.SMALL)
        else:
            self._append(slot, _Queue.MAIN if returning else _Queue.SMALL)

    def _move(self, slot: int, queue: int, *, uses: int) -> None:
        self._unlink(slot, queue)
        self._flags[slot] = self._flags[slot] & 0b1111 | uses << 4
        self._append(slot, _Queue.MAIN)

    def _append(self, slot: int, queue: _Queue) -> None:
        last = self._tails[queue]
        self._previous[slot], self._next[slot] = last, NOWHERE
        if last:
            self._next[last] = slot
        else:
            self._heads[queue] = slot
        self._tails[queue] = slot
        self._enter(slot, queue)

    def _prepend(self, slot: int, queue: _Queue) -> None:
        first = self._heads[queue]
        self._previous[slot], self._next[slot] = NOWHERE, first
        if first:
            self._previous[first] = slot
        else:
            self._tails[queue] = slot
        self._heads[queue] = slot
        self._enter(slot, queue)

    def _enter(self, slot: int, queue: _Queue) -> None:
        self._flags[slot] = self._flags[slot] & ~3 | queue
        self._queued[queue] += self._sizes[slot]

    def _unlink(self, slot: int, queue: int) -> None:
        before, after = self._previous[slot], self._next[slot]
        if before:
            self._next[before] = after
        else:
            self._heads[queue] = after
        if after:
            self._previous[after] = before
        else:
            self._tails[queue] = before
        self._flags[slot] &= ~3
        self._queued[queue] -= self._sizes[slot]

    def _forget_ghosts(self) -> None:
        """Drop the older half: dicts keep order, but taking the first one at a time is not O(1) for them."""
        names = list(self._ghosts)
        self._ghosts = dict.fromkeys(names[len(names) // 2 :])

    def _walk(self, queue: _Queue) -> Iterator[int]:
        slot = self._heads[queue]
        while slot:
            yield slot
            slot = self._next[slot]
