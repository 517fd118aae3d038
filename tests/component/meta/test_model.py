"""Random lives of a store against a dictionary: transactions, commits, kills at any durable step, power cuts.

The oracle: after a kill everything acknowledged is there. After a power cut the store is as it was after some
transaction, not earlier than the last one ``sync`` vouched for. ``check`` finds nothing, ever, and inode numbers are
never given twice.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gatewayfs.errors import LocalError
from gatewayfs.meta import frames, journal, recovery_log, writer
from gatewayfs.meta.check import check
from gatewayfs.meta.env import Limits, MetaStore
from gatewayfs.meta.recovery import rebuild
from gatewayfs.meta.schema import Doomed, Remote
from gatewayfs.runtime.failpoints import FAILPOINTS, arm
from tests.component.meta.stores import directory_inode, file_inode, new_store, open_store
from tests.support.schedules import choose_schedule

replace = msgspec.structs.replace

LIMITS = Limits(map_bytes=64 << 20, segment_bytes=4096, segments_max=1000)
NAMES = st.sampled_from([b"a", b"b", b"c", b"longer name"])
STEPS = sorted(name for name in FAILPOINTS if name.startswith("meta."))

Model = dict[str, Any]


class StoreMachine(RuleBasedStateMachine):
    """One store, its model after every sequence number, and what has been promised."""

    @initialize()
    def start(self) -> None:
        # In memory where possible: fsync costs nothing there, and power cuts are made by hand anyway.
        memory = Path("/dev/shm")
        self.base = Path(tempfile.mkdtemp(prefix="meta-model-", dir=memory if memory.is_dir() else None))
        self.lives = 0
        self.boot = 0
        self.clock = 1
        self.given: set[int] = {1}
        self.store = new_store(self.base / "0", boot="0", limits=LIMITS)
        self.model: Model = {"inodes": {1: (0, b"", True, 0, 0, None)}, "doomed": frozenset()}
        self.history: dict[int, Model] = {0: {"inodes": {}, "doomed": frozenset()}}
        self.remember()
        self.sync()

    def teardown(self) -> None:
        arm("")
        if hasattr(self, "base"):
            self.store.abandon()
            shutil.rmtree(self.base)

    # ------------------------------------------------------------- the model

    def remember(self) -> None:
        self.history[self.store.statistics().sequence] = {
            "inodes": dict(self.model["inodes"]), "doomed": self.model["doomed"],
        }  # fmt: skip

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def pick(self, data: st.DataObject, *, directory: bool | None = None, linked: bool = True) -> int | None:
        inodes = self.model["inodes"]
        fits = [
            ino for ino, (parent, _, is_directory, *_) in inodes.items()
            if (directory is None or is_directory == directory) and (not linked or parent or ino == 1)
        ]  # fmt: skip
        return data.draw(st.sampled_from(fits)) if fits else None

    def taken(self, parent: int, name: bytes) -> int | None:
        for ino, (its_parent, its_name, *_) in self.model["inodes"].items():
            if ino != 1 and (its_parent, its_name) == (parent, name) and its_parent:
                return int(ino)
        return None

    def below(self, ino: int, ancestor: int) -> bool:
        while ino:
            if ino == ancestor:
                return True
            ino = self.model["inodes"][ino][0]
        return False

    def put(self, tx: Any, ino: int, **fields: Any) -> None:
        inode = replace(tx.require(ino), **fields)
        tx.put(inode)
        key = None if inode.remote is None else inode.remote.key
        self.model["inodes"][ino] = (
            inode.parent, inode.name, inode.is_directory, inode.size, inode.dirty_since_ns, key,
        )  # fmt: skip

    # ------------------------------------------------------------- transactions

    @rule(data=st.data(), name=NAMES, is_directory=st.booleans(), dirty=st.booleans(), needs_data=st.booleans())
    def create(self, data: st.DataObject, name: bytes, is_directory: bool, dirty: bool, needs_data: bool) -> None:
        parent = self.pick(data, directory=True)
        assert parent is not None
        if self.taken(parent, name) is not None:
            return
        with self.store.transaction() as tx:
            ino = tx.new_ino()
            assert ino not in self.given
            self.given.add(ino)
            make = directory_inode if is_directory else file_inode
            tx.put(make(ino, parent, name))
            self.put(tx, ino, dirty_since_ns=self.tick() if dirty else 0)
            if needs_data:
                tx.needs_data_sync(str(self.store.directory / "data" / str(ino)))
        self.remember()

    @rule(data=st.data(), name=NAMES)
    def rename(self, data: st.DataObject, name: bytes) -> None:
        ino, parent = self.pick(data), self.pick(data, directory=True)
        if ino in (None, 1) or parent is None or self.below(parent, ino):
            return
        victim = self.taken(parent, name)
        if victim == ino or (victim is not None and self.model["inodes"][victim][2]):
            return
        with self.store.transaction() as tx:
            if victim is not None:
                self.put(tx, victim, parent=0, name=b"")
            self.put(tx, ino, parent=parent, name=name, dirty_since_ns=self.tick())
        self.remember()

    @rule(data=st.data())
    def upload(self, data: st.DataObject) -> None:
        """Becomes clean, with an object at its key; the old object is doomed."""
        ino = self.pick(data, directory=False)
        if ino is None:
            return
        with self.store.transaction() as tx:
            inode = tx.require(ino)
            key = tx.key_of(inode)
            doomed = set(self.model["doomed"])
            holder = tx.holder(key)
            if holder is not None and holder.ino != ino:
                self.put(tx, holder.ino, remote=None)
            if inode.remote is not None and inode.remote.key != key:
                tx.doom(Doomed(inode.remote.key, "", self.tick()))
                doomed.add(inode.remote.key)
            tx.undoom(key)
            doomed.discard(key)
            self.put(tx, ino, remote=Remote(key, "e", inode.size, 0, 1, 1), dirty_since_ns=0)
        self.model["doomed"] = frozenset(doomed)
        self.remember()

    @rule(data=st.data(), size=st.integers(0, 1000))
    def write(self, data: st.DataObject, size: int) -> None:
        ino = self.pick(data, directory=False)
        if ino is not None:
            with self.store.transaction() as tx:
                self.put(tx, ino, size=size, dirty_since_ns=self.tick())
            self.remember()

    @rule(data=st.data(), unlink_first=st.booleans())
    def remove(self, data: st.DataObject, unlink_first: bool) -> None:
        ino = self.pick(data, linked=False)
        if ino in (None, 1) or any(parent == ino for parent, *_ in self.model["inodes"].values()):
            return
        with self.store.transaction() as tx:
            if unlink_first:
                self.put(tx, ino, parent=0, name=b"")
            else:
                tx.remove(ino)
                del self.model["inodes"][ino]
        self.remember()

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        ino = self.pick(data)
        assert ino is not None
        with pytest.raises(ZeroDivisionError), self.store.transaction() as tx:  # noqa: PT012
            tx.put(replace(tx.require(ino), size=4711, dirty_since_ns=99))
            tx.new_ino()  # seen by nobody
            raise ZeroDivisionError

    # ------------------------------------------------------------- durability

    @rule()
    def checkpoint(self) -> None:
        trio.run(self.store.checkpoint)
        self.promised = self.store.statistics().sequence
        assert self.store.statistics().waiting_keys == 0

    @rule()
    def sync(self) -> None:
        before = self.store.statistics().sequence
        trio.run(self.store.sync)
        self.promised = self.store.statistics().synced_sequence
        assert self.promised >= before
        self.remember()

    @rule(number=st.integers(0, 7), again=st.booleans())
    def sync_beside_commit(self, number: int, again: bool) -> None:
        """In whatever order their parts come; the last commit may lack what ``sync`` appended."""

        async def both() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.store.checkpoint)
                nursery.start_soon(self.store.sync)
                if again:
                    nursery.start_soon(self.store.sync)

        before = self.store.statistics().sequence
        choose_schedule(number)
        trio.run(both)
        self.promised = self.store.statistics().synced_sequence
        assert self.promised >= before
        self.remember()

    @rule(where=st.sampled_from(["meta.commit.before", "meta.recovery.before", "meta.sync.before"]))
    def failing_disk(self, where: str) -> None:
        arm(f"{where}=error")
        try:
            trio.run(self.store.checkpoint)
            self.promised = self.store.statistics().sequence
            trio.run(self.store.sync)
        except LocalError:
            pass
        arm("")
        self.remember()

    @rule()
    def stop_and_start(self) -> None:
        self.store.close()
        self.store = open_store(self.store.directory, boot=str(self.boot), limits=LIMITS)
        assert self.store.statistics().replayed == 0
        self.promised = self.store.statistics().sequence
        self.remember()

    @rule(full=st.booleans())
    def kill(self, full: bool) -> None:
        self.go_on_with(self.copy(), full)

    @rule(where=st.sampled_from(STEPS), how=st.sampled_from(["checkpoint", "sync", "both"]))
    def kill_at(self, where: str, how: str) -> None:
        """The copy is made when the step is reached, in the middle of everything."""
        copies: list[Path] = []

        def hook(name: str) -> None:
            if name == where and not copies:
                copies.append(self.copy())

        with pytest.MonkeyPatch.context() as patch:
            for module in (journal, recovery_log, writer):
                patch.setattr(module, "failpoint", hook)
            if how != "checkpoint":
                trio.run(self.store.sync)
            if how != "sync":
                trio.run(self.store.checkpoint)
        self.remember()
        if copies:
            self.go_on_with(copies[0])
        else:
            self.promised = self.store.statistics().synced_sequence

    @rule(data=st.data(), commit=st.booleans(), full=st.booleans())
    def power_cut(self, data: st.DataObject, commit: bool, full: bool) -> None:
        """Frames that were not synced may be lost, each for itself."""
        if commit:
            self.checkpoint()
        # What an earlier loss or sync left on the disk is there, even if this life has no need to know.
        safe = max(self.store.statistics().synced_sequence, self.promised)
        copy = self.copy()
        for path in journal.segment_paths(copy / "journal"):
            raw = bytearray(path.read_bytes())
            header = frames.decode_header(bytes(raw))
            assert header is not None
            offset = frames.SEGMENT_HEADER_BYTES
            for frame in list(frames.frames_in(bytes(raw), header.salt)):
                size = frames.frame_bytes(len(frame.payload))
                if frame.sequence > safe and data.draw(st.integers(0, 3)) == 0:
                    raw[offset : offset + size] = bytes(size)
                offset += size
            path.write_bytes(raw)
        self.boot += 1
        self.store.abandon()
        self.store = self.started(copy, full)
        reached = self.store.statistics().sequence
        assert reached >= self.promised
        self.model = dict(self.history[max(each for each in self.history if each <= reached)])
        self.model["inodes"] = dict(self.model["inodes"])
        self.history = {each: model for each, model in self.history.items() if each <= reached}
        self.promised = reached
        self.remember()

    @precondition(lambda self: self.lives < 3)
    @rule()
    def the_environment_is_lost(self) -> None:
        """A side branch: rebuilt from log and journal, every dirty inode is there as it was."""
        copy = self.copy()
        shutil.rmtree(copy / "meta")
        try:
            rebuild(copy)
            again = open_store(copy, boot=str(self.boot), limits=LIMITS)
        finally:
            self.lives += 1
        assert check(again) == []
        for ino, (parent, name, _, size, dirty, _) in self.model["inodes"].items():
            if dirty and (parent or ino == 1):
                inode = again.require(ino)
                assert (inode.parent, inode.name, inode.size, inode.dirty_since_ns) == (parent, name, size, dirty)
                assert again.path_of(ino) == self.store.path_of(ino)
        assert {doomed.key for doomed in again.iter_doomed()} == self.model["doomed"]
        with again.transaction() as tx:
            assert tx.new_ino() not in self.given
        again.abandon()
        shutil.rmtree(copy)

    def copy(self) -> Path:
        self.lives += 1
        return Path(shutil.copytree(self.store.directory, self.base / str(self.lives) / str(len(self.history))))

    def started(self, directory: Path, full: bool) -> MetaStore:
        """A store on ``directory``; ``full``: LMDB had no room, what was replayed waits in its old segments."""
        arm("meta.commit.before=full" if full else "")
        try:
            return open_store(directory, boot=str(self.boot), limits=LIMITS)
        finally:
            arm("")

    def go_on_with(self, directory: Path, full: bool = False) -> None:
        self.store.abandon()
        shutil.rmtree(self.store.directory)
        self.store = self.started(directory, full)
        self.promised = max(self.promised, self.store.statistics().synced_sequence)
        self.remember()

    # ------------------------------------------------------------- the oracle

    @invariant()
    def store_and_model_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        store, inodes = self.store, self.model["inodes"]
        found = {ino: self.summary(store, ino) for ino in inodes}
        assert found == inodes
        assert store.inode_count == len(inodes)
        for ino, (_, _, is_directory, *_) in inodes.items():
            if is_directory:
                children = sorted(child for child, (parent, *_) in inodes.items() if parent == ino)
                assert store.children(ino) == children
                assert store.has_children(ino) == bool(children)
        for ino, (parent, name, *_, key) in inodes.items():
            if parent:
                entry = store.lookup(parent, name)
                assert entry is not None
                assert entry.ino == ino
            if key is not None:
                holder = store.holder(key)
                assert holder is not None
                assert holder.ino == ino
        assert list(store.iter_dirty()) == sorted((each[4], ino) for ino, each in inodes.items() if each[4])
        assert {doomed.key for doomed in store.iter_doomed()} == self.model["doomed"]
        orphans = sorted(ino for ino, (parent, *_) in inodes.items() if not parent and ino != 1)
        assert list(store.iter_orphans()) == orphans
        assert check(store) == []

    @staticmethod
    def summary(store: MetaStore, ino: int) -> tuple[Any, ...] | None:
        inode = store.inode(ino)
        if inode is None:
            return None
        key = None if inode.remote is None else inode.remote.key
        return (inode.parent, inode.name, inode.is_directory, inode.size, inode.dirty_since_ns, key)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)  # fmt: skip
