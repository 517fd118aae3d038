"""How far the renames of directories have got in the bucket, for ``status``: counted, never listed.

A directory is walked from above (``directories.py``) and its files are copied as their turn comes, so the total grows
while the first are done already. Counts begin anew with the program.
"""

from dataclasses import dataclass

from gatewayfs.upload.status import Renaming

RENAMES_MAX = 100
"""More at a time are done, but not counted."""


@dataclass(slots=True)
class _Rename:
    old: str
    new: str
    total: int = 0
    done: int = 0
    unvisited: int = 1

    @property
    def over(self) -> bool:
        return not self.unvisited and self.done >= self.total


class Renames:
    """Renames under way, each named by the prefixes of the directory at its top."""

    def __init__(self) -> None:
        self._running: list[_Rename] = []

    def __repr__(self) -> str:
        return f"<Renames {len(self._running)} running>"

    def begun(self, old: str, new: str) -> None:
        """A directory whose objects are below ``old`` shall be at ``new``; nothing new if one above it moves there."""
        rename = self._of(new)
        if rename is not None and (rename.old, rename.new) == (old, new):
            # Walked once more from its top, after a failure: what has not arrived is found again.
            rename.total, rename.unvisited = rename.done, 1
        if old == new or rename is not None:
            return
        # What was on its way to where this one comes from goes on from there to the new place.
        self._running = [each for each in self._running if old not in (each.old, each.new)]
        if len(self._running) < RENAMES_MAX:
            self._running.append(_Rename(old, new))

    def found(self, new: str, files: int, directories: int) -> None:
        """So many children of the directory at ``new`` are in the queue now."""
        if (rename := self._of(new)) is not None:
            rename.total += files
            rename.unvisited += directories

    def visited(self, new: str) -> None:
        """All children of the directory at ``new`` are in the queue."""
        if (rename := self._of(new)) is not None:
            rename.unvisited = max(0, rename.unvisited - 1)
            self._forget_what_is_over()

    def arrived(self, key: str) -> None:
        """An object is at ``key`` that was not there before."""
        if self._running and (rename := self._of(key)) is not None:
            rename.done += 1
            self._forget_what_is_over()

    def running(self, *, idle: bool) -> tuple[Renaming, ...]:
        """All of them; ``idle``: the queue is empty, so nothing is, whatever was counted."""
        if idle:
            self._running.clear()
        return tuple(Renaming(each.old, each.new, min(each.done, each.total), each.total) for each in self._running)

    def _of(self, key: str) -> _Rename | None:
        return next((each for each in self._running if key.startswith(each.new)), None)

    def _forget_what_is_over(self) -> None:
        self._running = [each for each in self._running if not each.over]
