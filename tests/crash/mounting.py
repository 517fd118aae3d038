"""Real daemons on real mounts, killed and started again, with the writer in a process of its own.

``QuickGateway`` is ``tests.support.gateway.Gateway`` whose daemon is forked from a zygote instead of executed: the same
``gatewayfs mount``, without a second of imports before each life. The writer's log lies outside the mount; a record is
written after the call it is about returned, so what the log says was answered, was.
"""

import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gatewayfs.cli.main import main
from gatewayfs.runtime import failpoints
from tests.crash.drivers import MountDriver
from tests.crash.ledger import Began, Blobs, Ledger, Log, Lost, Reader, Record, Refused, Started, found_tree
from tests.crash.objects import Object, complaints
from tests.crash.series import POLL_S, SIGKILLED
from tests.crash.zygote import Child, Zygote
from tests.support.gateway import Gateway, Gateways
from tests.support.s3server import Bucket

STEPS = 100_000
PATIENCE_S = 30.0
SETTINGS = {"upload.settle": "100ms", "log.level": "info"}


# --------------------------------------------------------------------------- children of a zygote


def daemon(argv: list[str]) -> int:
    """``gatewayfs ARGV``."""
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    sys.argv = ["gatewayfs", *argv]
    return main(argv)


def writer(*, root: str, home: str, seed: int, steps: int) -> int:
    """Look at everything below ``root``, then write steps until the daemon is gone or the steps are done."""
    log, blobs = Log(f"{home}/log"), Blobs(f"{home}/blobs")
    driver = MountDriver(root, log, blobs)
    log.write(Started("writer"))
    try:
        tree = found_tree(driver.find(), blobs)
    except OSError as problem:
        log.write(Refused(str(problem)))
        return 0
    driver.write_steps(random.Random(seed), tree, steps)
    return 0


# --------------------------------------------------------------------------- the test's end


class QuickGateway(Gateway):
    """A gateway whose daemons are forked from ``zygote``."""

    zygote: Zygote

    def spawn(self) -> None:
        share = f"{self.bucket.name}/{self.prefix}" if self.prefix else self.bucket.name
        argv = ["mount", share, str(self.mount_dir), "--cache-dir", str(self.cache_dir)]
        argv += ["--endpoint-url", self.endpoint_url]
        for name, value in self.settings.items():
            argv += ["--set", f"{name}={value}"]
        child = self.zygote.fork("tests.crash.mounting:daemon", self.log_path, self.environ(), argv=argv)
        self.process = child  # type: ignore[assignment]


class MountSeries:
    """One share on a real mount, many lives; the judge is ``ledger``, the bucket is asked through boto3."""

    def __init__(self, seed: int, zygote: Zygote, bucket: Bucket, home: Path, **arguments: Any) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.bucket = bucket
        self.kills: Counter[str] = Counter()
        self.home = home
        (home / "share").mkdir()
        self._factory = Gateways(home)
        self.gateway = QuickGateway(
            bucket, home / "share", settings={**SETTINGS, **arguments.pop("settings", {})}, **arguments
        )
        self.gateway.zygote = zygote
        self._factory.made.append(self.gateway)
        self._zygote = zygote
        self._blobs = Blobs(str(home / "blobs"))
        self.ledger = Ledger(self._blobs)
        self._reader = Reader(home / "log")
        self._round: list[Record] = []
        self._rounds = 0

    def __enter__(self) -> Self:
        self._factory.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._factory.__exit__(kind, error, tb)
        if error is not None:
            error.add_note(f"series of seed {self.seed}, round {self._rounds}; the daemon:\n{self.gateway.log_tail()}")

    # ------------------------------------------------------------------ rounds

    def kill_at_work(self) -> None:
        """Kill the daemon while the writer is writing."""
        self.gateway.start()
        writer = self._writer()
        self._wait(lambda: self._seen(Began))
        time.sleep(self.rng.uniform(0, 0.15))
        self.gateway.kill9()
        writer.wait()
        self._judge()
        self.kills["work"] += 1

    def kill_at_start(self) -> None:
        """Kill the daemon while it starts, perhaps before it mounts."""
        self.gateway.spawn()
        time.sleep(self.rng.uniform(0, 0.15))
        self.gateway.kill9()
        self.kills["start"] += 1

    def kill_at_upload(self) -> None:
        """Kill the daemon while it uploads, after the writer has stopped."""
        self.gateway.start()
        assert self._writer(self.rng.randrange(1, 12)).wait() == 0
        self._judge()
        time.sleep(self.rng.uniform(0.1, 0.3))
        self.gateway.kill9()
        self.kills["upload"] += 1

    def kill_at_point(self, name: str, hit: int = 1, *, patience_s: float = 4.0) -> bool:
        """Let the daemon kill itself at a failpoint; False when it does not come by in time."""
        self.gateway.env = {failpoints.VARIABLE: f"{name}:{hit}=kill"}
        self.gateway.spawn()
        self.gateway.env = {}
        deadline = time.monotonic() + patience_s
        while not self.gateway.serves() and not self._dead():
            assert time.monotonic() < deadline, "the daemon does not serve"
            time.sleep(POLL_S)
        writer = self._writer()
        while not self._dead() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        reached = self._dead()
        if reached:
            assert self.gateway.wait_exit() == SIGKILLED
            self.kills[f"point {name}"] += 1
        else:
            self.gateway.kill9()
        writer.wait()
        self._judge()
        return reached

    def finish(self) -> None:
        """The last life: everything must arrive, nothing else, and the share's own check must be silent."""
        self.gateway.start()
        assert self._writer(5).wait() == 0
        self.gateway.drain()
        said = self.gateway.verb("check", str(self.gateway.mount_dir), check=False)
        assert said.returncode == 0, said.stdout + said.stderr
        assert self._writer(0).wait() == 0
        self._judge()
        assert self.ledger.pending is None
        wrong = complaints(self.ledger.tree, self._objects())
        uploads = self.bucket.s3.list_multipart_uploads(Bucket=self.bucket.name).get("Uploads", [])
        wrong += [f"a fragment of an upload is left: {upload['Key']}" for upload in uploads]
        if wrong:
            raise Lost("in the bucket: " + "; ".join(wrong))
        self.gateway.umount()

    # ------------------------------------------------------------------ inside

    def _objects(self) -> list[Object]:
        keys = self.bucket.keys()
        return [Object(key, self.bucket.body(key), self.bucket.metadata(key)) for key in keys]

    def _dead(self) -> bool:
        return self.gateway.process is None or self.gateway.process.poll() is not None

    def _writer(self, steps: int = STEPS) -> Child:
        self._rounds += 1
        self._round = []
        return self._zygote.fork(
            "tests.crash.mounting:writer",
            self.home / "writer.out",
            root=str(self.gateway.mount_dir),
            home=str(self.home),
            seed=self.rng.randrange(1 << 30),
            steps=steps,
        )

    def _seen(self, kind: type) -> bool:
        self._judge()
        return any(isinstance(record, kind) for record in self._round)

    def _wait(self, condition: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert not self._dead(), f"the daemon ended by itself:\n{self.gateway.log_tail()}"
            assert time.monotonic() < deadline, "the writer does not begin"
            time.sleep(POLL_S)

    def _judge(self) -> None:
        for record in self._reader:
            self._round.append(record)
            try:
                self.ledger.feed(record)
            except Lost as lost:
                raise Lost(f"seed {self.seed}, round {self._rounds} after {dict(self.kills)}: {lost}") from None
