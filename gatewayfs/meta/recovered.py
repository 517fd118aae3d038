"""What the recovery log and the journal still know when LMDB is lost: reading only, tolerant of damage.

The log comes first, every frame that is whole; then the journal's frames after it. Of both only what the
recovery log keeps is looked at: inodes, condemned objects, uploads, parked entries, fences and settings.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gatewayfs.errors import CorruptRecord
from gatewayfs.meta import codec, frames
from gatewayfs.meta.journal import segment_paths
from gatewayfs.meta.opening import JOURNAL, RECOVERY
from gatewayfs.meta.recovery_log import read_log
from gatewayfs.meta.replay import Replay
from gatewayfs.meta.schema import Doomed, Fence, Inode, Parked, UploadState
from gatewayfs.runtime.durable import boot_identity
from gatewayfs.types import ROOT_INO

KEPT = (codec.INODE, codec.DOOMED, codec.UPLOAD, codec.PARKED, codec.FENCE, codec.SETTING)


@dataclass
class Recovered:
    """What the recovery log and the journal still know."""

    settings: dict[str, bytes] = field(default_factory=dict)
    inodes: dict[int, Inode] = field(default_factory=dict)
    """Dirty inodes and the directories above them, by number."""
    doomed: list[Doomed] = field(default_factory=list)
    uploads: dict[int, UploadState] = field(default_factory=dict)
    parked: dict[int, Parked] = field(default_factory=dict)
    fences: dict[int, Fence] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    """Records that do not decode, one line each; they are left out."""
    highest_ino: int = 0
    """The highest inode number seen anywhere, kept or not."""
    sequence: int = 0
    """The last journal frame used."""

    @property
    def prefix(self) -> str:
        """The share's prefix in the bucket. Raises CorruptRecord when it is not known."""
        try:
            return self.settings["prefix"].decode()
        except (KeyError, UnicodeDecodeError) as problem:
            raise CorruptRecord("the recovery log does not name the share's prefix") from problem


def read_recovery(cache: Path) -> Recovered:
    """What can be rebuilt in the cache directory ``cache``. Reads only; raises CorruptRecord when there is no log."""
    if not (cache / RECOVERY).is_dir():
        raise CorruptRecord(f"{cache / RECOVERY} is missing")
    records: dict[bytes, bytes | None] = {}
    found = Recovered()
    for frame in read_log(cache / RECOVERY):
        records.update(codec.decode_changes(frame.payload))
        found.sequence = max(found.sequence, frame.sequence)
    for sequence, payload in _journal_payloads(cache / JOURNAL, found.sequence):
        for key, value in codec.decode_changes(payload):
            if key[:1] in KEPT:
                records[key] = value
        found.sequence = max(found.sequence, sequence)
    _sort_out(records, found)
    return found


def _journal_payloads(directory: Path, applied: int) -> Iterator[tuple[int, bytes]]:
    """(sequence, payload) of the frames after ``applied``; with gaps, rather than nothing, where it is damaged."""
    replay = Replay(directory, applied, frames.boot_digest(boot_identity()))
    last = applied
    try:
        for frame in replay:
            last = frame.sequence
            yield last, frame.payload
    except CorruptRecord:
        replay.dropped = 1
    if not replay.dropped:
        return
    for path in segment_paths(directory):
        data = path.read_bytes()
        header = frames.decode_header(data)
        for frame in frames.frames_in(data, header.salt) if header is not None else ():
            if frame.sequence > last:
                last = frame.sequence
                yield last, frame.payload


def _sort_out(records: dict[bytes, bytes | None], found: Recovered) -> None:
    inodes: dict[int, Inode] = {}
    for key, value in records.items():
        table = key[:1]
        if table == codec.INODE:
            found.highest_ino = max(found.highest_ino, codec.number_at(key, 1))
        if value is None:
            continue
        try:
            _take_record(key, value, found, inodes)
        except CorruptRecord as problem:
            found.damaged.append(str(problem))
    for inode in inodes.values():
        current: Inode | None = inode if inode.dirty_since_ns and inode.linked else None
        while current is not None and current.ino not in found.inodes:
            found.inodes[current.ino] = current
            current = inodes.get(current.parent)
    if ROOT_INO in inodes:
        found.inodes.setdefault(ROOT_INO, inodes[ROOT_INO])


def _take_record(key: bytes, value: bytes, found: Recovered, inodes: dict[int, Inode]) -> None:
    table = key[:1]
    if table == codec.INODE:
        inodes[codec.number_at(key, 1)] = codec.decode_inode(key, value)
    elif table == codec.DOOMED:
        found.doomed.append(codec.decode_doomed(key, value))
    elif table == codec.UPLOAD:
        found.uploads[codec.number_at(key, 1)] = codec.decode_upload(key, value)
    elif table == codec.PARKED:
        found.parked[codec.number_at(key, 1)] = codec.decode_parked(key, value)
    elif table == codec.FENCE:
        found.fences[codec.number_at(key, 1)] = codec.decode_fence(key, value)
    elif table == codec.SETTING:
        found.settings[key[1:].decode()] = value
