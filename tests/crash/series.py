"""A series of kills of one share below the kernel, each judged by the next start, and the reckoning at its end.

Every round forks a child that opens the share (which judges the kill before), works, and is killed:

    work    while it writes, at a random moment
    start   while it opens the share again
    drain   while everything is on its way to the bucket
    point   at a failpoint, by its own hand

A kill counts only when the child was alive and the log shows what it was doing.
"""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tests.crash.ledger import Began, Blobs, Draining, Ledger, Lost, Reader, Record, Started, digest_of
from tests.crash.objects import Object, complaints
from tests.crash.steps import AnyStep, midways
from tests.crash.storeserver import StoreServer
from tests.crash.zygote import Child, Zygote
from tests.support.fakestore import FakeObjectStore

SIGKILLED = -9
STEPS = 100_000
POLL_S = 0.001
PATIENCE_S = 20.0


def fast_directory() -> Path:
    """A new directory in memory where there is one: SIGKILL leaves the page cache alone, so a disk proves no more."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="gwfs-crash-", dir=memory if memory.is_dir() else None))


class Series:
    """One share, one bucket, many lives."""

    def __init__(self, seed: int, zygote: Zygote, *, pause_s_max: float = 0.002, settle_s: float = 0.0) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.home = fast_directory()
        self.fake = FakeObjectStore(part_bytes_min=1, now_ns=time.time_ns)
        self.fake.enable_versioning()
        self.server = StoreServer(self.fake, self.home / "store.sock", pause_s_max=pause_s_max, seed=seed)
        self.blobs = Blobs(str(self.home / "blobs"))
        self.ledger = Ledger(self.blobs)
        self.kills: Counter[str] = Counter()
        self.known = {digest_of(b"")}
        self._settle_s = settle_s
        self._zygote = zygote
        self._reader = Reader(self.home / "log")
        self._round: list[Record] = []
        self._rounds = 0

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.server.__exit__()
        if error is not None:
            error.add_note(f"series of seed {self.seed}, round {self._rounds}; the last child said:\n{self.said()}")
        shutil.rmtree(self.home, ignore_errors=True)

    def said(self, lines: int = 40) -> str:
        """The end of what the children wrote."""
        output = self.home / "output"
        return "\n".join(output.read_text().splitlines()[-lines:]) if output.exists() else ""

    # ------------------------------------------------------------------ rounds

    def kill_at_work(self) -> None:
        child = self._fork("work")
        self._wait(child, lambda: self._doing(Began))
        time.sleep(self.rng.uniform(0, 0.12))
        self._kill(child, "work", Began)

    def kill_at_start(self) -> None:
        child = self._fork("start", steps=0)
        self._wait(child, lambda: self._doing(Started))
        time.sleep(self.rng.uniform(0, 0.03))
        self._kill(child, "start", Started)

    def kill_at_drain(self) -> None:
        child = self._fork("drain", steps=self.rng.randrange(12), drain=True)
        self._wait(child, lambda: self._doing(Draining))
        time.sleep(self.rng.uniform(0, 0.06))
        self._kill(child, "drain", Draining)

    def kill_at_point(self, name: str, hit: int = 1, *, patience_s: float = 3.0) -> bool:
        """Let the child kill itself there; False when it did not come by in time (then it is no kill that counts)."""
        child = self._fork("point", armed=f"{name}:{hit}=kill")
        deadline = time.monotonic() + patience_s
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        reached = child.poll() is not None
        if reached:
            self._expect_killed(child)
            self.kills[f"point {name}"] += 1
        else:
            child.kill()
            child.wait()
        self._judge()
        return reached

    def kill_in_step(self, steps: list[AnyStep], armed: str) -> bool:
        """Let the child kill itself within the last of ``steps``; False when that step does not come by there."""
        script = msgspec.json.encode(steps).decode()
        child = self._fork("step", script=script, armed=f"{armed}=kill")
        status = child.wait(PATIENCE_S)
        assert status in (0, SIGKILLED), f"the child ended with {status}"
        self._judge()
        self.kills["step"] += status == SIGKILLED
        return status == SIGKILLED

    def finish(self) -> None:
        """The last life: everything must arrive, and nothing else. Raises AssertionError, Lost."""
        child = self._fork("finish", steps=5, finish=True)
        status = child.wait(PATIENCE_S * 3)
        self._judge()
        assert status == 0, f"the last life ended with {status}"
        assert self.ledger.pending is None
        found = [Object(key, item.data, item.metadata) for key, item in self.fake.raw.items()]
        wrong = complaints(self.ledger.tree, found)
        wrong += [f"a fragment of an upload is left: {fragment}" for fragment in self.fake.upload_ids]
        if wrong:
            raise Lost("in the bucket: " + "; ".join(wrong))
        self._judge_versions()

    # ------------------------------------------------------------------ inside

    def _fork(self, purpose: str, *, steps: int = STEPS, **arguments: object) -> Child:
        self._rounds += 1
        self._round = []
        return self._zygote.fork(
            "tests.crash.rig:child",
            self.home / "output",
            home=str(self.home),
            store=str(self.server.path),
            purpose=purpose,
            seed=self.rng.randrange(1 << 30),
            steps=steps,
            settle_s=self._settle_s,
            **arguments,
        )

    def _doing(self, kind: type) -> bool:
        self._judge()
        return any(isinstance(record, kind) for record in self._round)

    def _wait(self, child: Child, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert child.poll() is None, f"the child ended with {child.returncode} by itself"
            assert time.monotonic() < deadline, "the child does not get there"
            time.sleep(POLL_S)

    def _kill(self, child: Child, what: str, proof: type) -> None:
        child.kill()
        self._expect_killed(child)
        self._judge()
        assert any(isinstance(record, proof) for record in self._round)
        self.kills[what] += 1

    def _expect_killed(self, child: Child) -> None:
        status = child.wait()
        assert status == SIGKILLED, f"the child ended with {status}, not by SIGKILL"

    def _judge(self) -> None:
        for record in self._reader:
            self._round.append(record)
            try:
                self.ledger.feed(record)
            except Lost as lost:
                raise Lost(f"seed {self.seed}, round {self._rounds} after {dict(self.kills)}: {lost}") from None
            if isinstance(record, Began):
                self.known |= {digest_of(data) for data in midways(self.ledger.tree, record.step)}
            elif not isinstance(record, Started):
                self.known |= {digest_of(node.data) for node in self.ledger.tree.values()}

    def _judge_versions(self) -> None:
        """No object ever held bytes that no writer put together: neither half of a change nor a mixture of two."""
        for key in self.fake.raw:
            for version in self.fake.versions(key):
                if not version.delete_marker and digest_of(version.data) not in self.known:
                    raise Lost(f"a version of {key} with {len(version.data)} bytes was never a file's content")
