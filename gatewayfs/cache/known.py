"""What is known of the bytes of the object behind one live file: fingerprints of cells that came from it.

An edit of a file costs little of the link when the cells it did not touch are known to be the object's
(``upload/delta.py``). Uploads know what they sent; of what others put into the bucket each cell is fingerprinted while
it arrives, by the thread that has its bytes in hand anyway. Only cells that one request brought whole are learned; the
others stay unknown, which costs sending them once. What was learned is recorded when the file is closed, and before it
is compared.
"""

from gatewayfs.meta.env import MetaStore
from gatewayfs.meta.schema import Fingerprints, Remote
from gatewayfs.runtime.fingerprints import DIGEST_BYTES, PassingCells, cell_bytes_for


class ObjectCells:
    """Cells that are not in the records yet, of one object at a time.

    Args:
        smallest_bytes: the size of a cell in files that are not huge; as the uploads'.
    """

    __slots__ = ("_cells", "_object", "_seen", "_smallest_bytes")

    def __init__(self, smallest_bytes: int) -> None:
        self._smallest_bytes = smallest_bytes
        self._object = ("", "", 0)
        self._cells: dict[int, bytes] = {}
        self._seen: set[int] = set()

    def __repr__(self) -> str:
        return f"<ObjectCells {len(self._cells)} learned>"

    def passing(self, remote: Remote, start: int) -> PassingCells | None:
        """What is to be shown the bytes of ``remote`` from ``start`` on; None for an object that could be any."""
        return PassingCells(start, remote.size, self.cell_bytes(remote.size)) if remote.etag else None

    def learn(self, remote: Remote, cells: dict[int, bytes]) -> None:
        """These are cells of ``remote``."""
        if not cells:
            return
        if self._object != _identity(remote):
            self._object, self._cells = _identity(remote), {}
        self._cells.update(cells)
        if self.cell_bytes(remote.size) == self._smallest_bytes:
            self._seen.update(cells)

    def seen(self, start: int, end: int) -> bool:
        """Whether all cells of ``[start, end)`` came while the file is in use, or ``see`` was told of them."""
        unit = self._smallest_bytes
        return all(number in self._seen for number in range(start // unit, -(-end // unit)))

    def see(self, start: int, end: int) -> None:
        """These need no look any more while the file is in use."""
        unit = self._smallest_bytes
        self._seen.update(range(start // unit, -(-end // unit)))

    def cell_bytes(self, size_bytes: int) -> int:
        """The size of a cell of an object."""
        return cell_bytes_for(size_bytes, self._smallest_bytes)

    def save(self, meta: MetaStore, ino: int) -> None:
        """Put what was learned into the records, beside what is there, if it is of the object the inode has now."""
        cells, self._cells = self._cells, {}
        inode = meta.inode(ino) if cells else None
        remote = None if inode is None else inode.remote
        if remote is None or _identity(remote) != self._object:
            return
        cell_bytes, known = self.cell_bytes(remote.size), meta.fingerprints(ino)
        digests = bytearray(DIGEST_BYTES * -(-remote.size // cell_bytes))
        if known is not None and known.describes(remote):
            if known.cell_bytes != cell_bytes:
                return  # of an earlier version's grid; what it says is as good
            digests[:] = known.digests
        for number, cell in cells.items():
            digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES] = cell
        if known is None or digests != known.digests:
            with meta.transaction() as tx:
                tx.put_fingerprints(ino, Fingerprints(remote.key, remote.etag, remote.size, cell_bytes, bytes(digests)))


def _identity(remote: Remote) -> tuple[str, str, int]:
    return remote.key, remote.etag, remote.size
