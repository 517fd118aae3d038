"""The two children of the power-loss tests: one that is recorded, and one that comes up after the power came back.

The bucket is in another building, its power stays: every change of it is marked in the record of the disk, so for any
moment the bucket as it was then can be put beside the disk as it may be.
"""

import ctypes
import logging
import pickle
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from gatewayfs.meta import committer
from tests.crash.drivers import VfsDriver
from tests.crash.ledger import Blobs, Finished, Log, found_tree
from tests.crash.objects import Object
from tests.crash.rig import COMMIT_INTERVAL_S, DRAIN_S_MAX, LIMITS, rig
from tests.support.fakestore import FakeObjectStore

CHANGES = (
    "put",
    "copy",
    "delete",
    "delete_many",
    "create_multipart",
    "upload_part",
    "copy_part",
    "complete_multipart",
    "abort_multipart",
)


class RecordedBucket(FakeObjectStore):
    """A bucket that keeps a copy of itself after every change."""

    def __init__(self, mark: Any) -> None:
        super().__init__(part_bytes_min=1, now_ns=time.time_ns)
        self._mark = mark
        self.states: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.keep()

    def keep(self) -> None:
        uploads = {name: replace(each, parts=dict(each.parts)) for name, each in self._uploads.items()}
        self.states.append(({key: list(versions) for key, versions in self._history.items()}, uploads))
        self._mark(f"bucket {len(self.states) - 1}")

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CHANGES:
            return found

        async def change(*arguments: Any, **keywords: Any) -> Any:
            try:
                return await found(*arguments, **keywords)
            finally:
                self.keep()

        return change


def revived_bucket(state: tuple[dict[str, Any], dict[str, Any]]) -> FakeObjectStore:
    """The bucket as it was."""
    bucket = FakeObjectStore(part_bytes_min=1, now_ns=time.time_ns)
    history, uploads = state
    bucket._history.update(history)
    bucket._uploads.update(uploads)
    bucket._ids = iter(range(1_000_000, 2_000_000))  # type: ignore[assignment]
    return bucket


def record(*, home: str, disk: str, seed: int, steps: int) -> int:
    """Write steps on a new share in ``disk`` (a file system of its own), everything recorded in ``home``."""
    logging.basicConfig(level=logging.INFO, force=True)
    library = ctypes.CDLL(None)

    def mark(text: str) -> None:
        library.powerloss_mark(text.encode())

    library.powerloss_start(disk.encode(), f"{home}/disklog".encode())
    committer.COMMIT_INTERVAL_S = COMMIT_INTERVAL_S
    log, blobs, bucket = Log(f"{home}/log"), Blobs(f"{home}/blobs"), RecordedBucket(mark)
    rng = random.Random(seed)

    async def main() -> None:
        async with rig(Path(disk), bucket, seed=seed, boot="before", limits=LIMITS) as share:
            driver = VfsDriver(share.filesystem, log, blobs, mark)
            tree = found_tree(await driver.find(), blobs)
            await driver.write_steps(rng, tree, steps, pause_s_max=0.03)

    trio.run(main)
    Path(home, "bucket").write_bytes(pickle.dumps(bucket.states))
    return 0


def revive(*, home: str, cache: str, bucket: int, seed: int) -> int:
    """Come up after a power loss on ``cache``: log what is there, drain, and write the bucket to ``cache``.bucket."""
    logging.basicConfig(level=logging.INFO, force=True)
    log, blobs = Log(f"{cache}.log"), Blobs(f"{home}/blobs")
    store = revived_bucket(pickle.loads(Path(home, "bucket").read_bytes())[bucket])

    async def main() -> None:
        async with rig(Path(cache), store, seed=seed, boot="after", limits=LIMITS, settle_s=600) as share:
            driver = VfsDriver(share.filesystem, log, blobs)
            await driver.find()
            with trio.fail_after(DRAIN_S_MAX):
                report = await share.uploader.drain()
            assert report.complete, report
            await driver.find()
            log.write(Finished(share.check() + share.left()))

    trio.run(main)
    objects = [Object(key, item.data, dict(item.metadata)) for key, item in store.raw.items()]
    Path(f"{cache}.bucket").write_bytes(pickle.dumps((objects, store.upload_ids)))
    return 0
