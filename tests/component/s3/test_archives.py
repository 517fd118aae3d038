"""The watch over archived objects: noted, asked for once, forgotten when they are read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from gatewayfs.errors import ObjectArchived, StoreError, StoreRefused
from gatewayfs.s3 import archives
from gatewayfs.s3.archives import LOOK_AGAIN_S, ArchiveWatch, RestoreSettings
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.store import InlineBody, ObjectHeaders, ObjectInfo
from gatewayfs.types import ETag, ObjectKey
from tests.support.badserver import BadServer, reply
from tests.support.fakestore import FakeObjectStore

KEY = ObjectKey("share/old")


class ManualClock:
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return 1_700_000_000_000_000_000 + int(self.now_s * 1e9)


class Vault:
    """HEAD and RestoreObject of one archived object."""

    def __init__(self, storage_class: str = "GLACIER") -> None:
        self.info = ObjectInfo(KEY, ETag("e"), 1, 0, storage_class=storage_class, archived=True)
        self.asked: list[tuple[str, int | None]] = []
        self.error: StoreError | None = None
        self.heads = 0

    async def head(self, key: ObjectKey) -> ObjectInfo:
        self.heads += 1
        return self.info

    async def restore(self, key: ObjectKey, *, tier: str, days: int | None) -> None:
        if self.error is not None:
            raise self.error
        self.asked.append((tier, days))


@asynccontextmanager
async def watching(watch: ArchiveWatch) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        yield
        nursery.cancel_scope.cancel()


def watch_over(vault: Vault, clock: ManualClock, fake: FakeObjectStore, tier: str = "bulk") -> ArchiveWatch:
    return ArchiveWatch(fake, vault, clock, RestoreSettings(tier, 3))


@pytest.fixture
async def fake() -> FakeObjectStore:
    made = FakeObjectStore()
    await made.put(KEY, InlineBody(b"x"), {}, ObjectHeaders())
    return made


async def test_an_object_is_asked_for_once_however_often_it_is_read(fake: FakeObjectStore) -> None:
    vault, clock = Vault(), ManualClock()
    watch = watch_over(vault, clock, fake)
    async with watching(watch):
        for _ in range(3):
            watch.note(KEY, "GLACIER")
            await trio.testing.wait_all_tasks_blocked()
        assert (vault.asked, vault.heads) == ([("bulk", 3)], 1)
        # Long afterwards S3 is asked how it stands, and no second time for a restore.
        vault.info = ObjectInfo(KEY, ETag("e"), 1, 0, archived=True, restoring=True)
        clock.now_s += LOOK_AGAIN_S
        watch.note(KEY, "GLACIER")
        await trio.testing.wait_all_tasks_blocked()
    assert vault.asked == [("bulk", 3)]
    (item,) = watch.status("share/").examples
    assert (item.path, item.storage_class, item.restore) == ("old", "GLACIER", "under way")
    assert watch.status("share/").restores_asked == 1


async def test_intelligent_tiering_takes_no_days(fake: FakeObjectStore) -> None:
    vault = Vault("INTELLIGENT_TIERING")
    watch = watch_over(vault, ManualClock(), fake, "standard")
    async with watching(watch):
        watch.note(KEY, "INTELLIGENT_TIERING")
        await trio.testing.wait_all_tasks_blocked()
    assert vault.asked == [("standard", None)]


async def test_a_refused_restore_is_told_and_one_under_way_is_no_refusal(fake: FakeObjectStore) -> None:
    vault, clock = Vault(), ManualClock()
    watch = watch_over(vault, clock, fake, "expedited")
    async with watching(watch):
        for code, told in (("InvalidArgument", "refused: no"), ("RestoreAlreadyInProgress", "under way")):
            vault.error = StoreRefused("no", code=code)
            clock.now_s += LOOK_AGAIN_S
            watch.note(KEY, "DEEP_ARCHIVE")
            await trio.testing.wait_all_tasks_blocked()
            assert [item.restore for item in watch.status("").examples] == [told]
    assert watch.status("").restores_asked == 0


async def test_nothing_is_asked_for_unless_the_share_wants_it(fake: FakeObjectStore) -> None:
    vault = Vault()
    watch = watch_over(vault, ManualClock(), fake, "")
    async with watching(watch):
        watch.note(KEY, "GLACIER")
        await trio.testing.wait_all_tasks_blocked()
    assert (vault.heads, vault.asked) == (0, [])
    assert watch.status("").files == 1


@pytest.mark.parametrize("what", ["read", "deleted", "replaced"])
async def test_what_is_read_replaced_or_deleted_is_forgotten(fake: FakeObjectStore, what: str) -> None:
    watch = watch_over(Vault(), ManualClock(), fake, "")
    watch.note(KEY, "GLACIER")
    watch.note("share/other", "GLACIER")
    if what == "read":
        await watch.get(KEY, 0, 1)
    elif what == "deleted":
        await watch.delete(KEY)
    else:
        await watch.put(KEY, InlineBody(b"y"), {})
    assert [item.path for item in watch.status("").examples] == ["share/other"]


async def test_the_list_is_bounded(fake: FakeObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "OBJECTS_MAX", 3)
    watch = watch_over(Vault(), ManualClock(), fake, "")
    for number in range(5):
        watch.note(f"{number}", "GLACIER")
    assert [item.path for item in watch.status("").examples] == ["2", "3", "4"]


@pytest.mark.parametrize("days", [3, None])
async def test_the_request(server: BadServer, store: HttpObjectStore, days: int | None) -> None:
    server.otherwise(reply(202, b""))
    await store.restore(KEY, tier="bulk", days=days)
    (request,) = server.requests
    assert (request.method, request.target.partition("?")[2]) == ("POST", "restore=")
    assert (b"<Days>3</Days>" in request.body) is (days is not None)
    assert b"<Tier>Bulk</Tier>" in request.body


@pytest.mark.parametrize("code", [b"InvalidObjectState", b"ObjectNotInActiveTierError"])
async def test_both_names_of_the_refusal_are_known(server: BadServer, store: HttpObjectStore, code: bytes) -> None:
    server.otherwise(reply(403, b"<Error><Code>" + code + b"</Code></Error>"))
    with pytest.raises(ObjectArchived, match="archive tier: restore it"):
        await store.get(KEY, 0, 1)
