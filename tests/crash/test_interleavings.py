"""One writer and one upload, held at the moment that once lost an update."""

from pathlib import Path

import trio
import trio.testing

from tests.crash.drivers import ROOT
from tests.crash.rig import rig
from tests.support.fakestore import FakeObjectStore

SIZE = 300_000


async def test_a_snapshot_waits_for_a_writer_that_has_announced_its_change(tmp_path: Path) -> None:
    bucket = FakeObjectStore(part_bytes_min=1)
    async with rig(tmp_path, bucket, settle_s=600) as share:
        files = share.filesystem.files
        inode, handle = await files.create(1, b"file", 0o644, 1, ROOT)
        await files.write(handle, 0, b"a" * SIZE)
        await files.flush(handle)
        await files.release(handle)
        await share.uploader.drain()
        handle = await files.open(inode.ino, 2, ROOT)
        before = share.meta.require(inode.ino).content_revision
        sync, reached, go_on = share.meta.sync, trio.Event(), trio.Event()

        async def held() -> None:
            reached.set()
            await go_on.wait()
            await sync()

        share.meta.sync = held  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.write, handle, 0, b"b")
            await reached.wait()
            # The revision is raised, the byte is not written.
            assert share.meta.require(inode.ino).content_revision == before + 1
            taken: list[bytes] = []

            async def take() -> None:
                snapshot = await share.cache.snapshot(inode.ino, 1 << 20)
                with open(snapshot.path, "rb") as file:
                    taken.append(file.read(1))

            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked(0.05)
            go_on.set()
        assert taken == [b"b"], "the bytes from before the change were taken for the revision after it"
        share.meta.sync = sync  # type: ignore[method-assign]
        await files.release(handle)
        await share.uploader.drain()
        assert bucket.raw["file"].data == b"b" + b"a" * (SIZE - 1)
