"""Bytes and attributes of a small file by one GET: it says what a HEAD says, and there is one request per file."""

import pytest
import trio
import trio.testing

from gatewayfs.errors import StoreUnreachable, Unavailable
from gatewayfs.s3.store import ObjectHeaders
from tests.component.refresh.harness import OURS


def requests(w):
    return w.store.count("get"), w.store.count("head")


async def listed(w, *names):
    await w.refresh.ensure_listed(1)
    return [w.path(name).ino for name in names]


async def test_one_get_says_what_a_head_says(w):
    headers = ObjectHeaders(content_type="text/plain", cache_control="no-cache")
    for name in ("got", "headed"):
        w.store.foreign_put(name, b"12345", OURS | {"colour": "blue"}, headers)
    async with w.running():
        got, headed = await listed(w, "got", "headed")
        etag, data = await w.refresh.read_small(got)
        assert requests(w) == (1, 0)
        await w.refresh.ensure_attributes(headed)
    assert (etag, data) == (w.path("got").remote.etag, b"12345")
    one, other = w.path("got"), w.path("headed")
    told = ("mode", "uid", "gid", "size", "mtime_ns", "foreign", "headers", "attributes_known", "dirty_since_ns")
    assert [getattr(one, name) for name in told] == [getattr(other, name) for name in told]
    assert one.uid == 7


async def test_who_wants_the_attributes_meanwhile_waits_for_the_get(w, nursery):
    w.store.foreign_put("file", b"12345", OURS)
    answered = trio.Event()
    w.store.held["get"] = answered.wait
    async with w.running():
        (ino,) = await listed(w, "file")
        nursery.start_soon(w.refresh.read_small, ino)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(w.refresh.ensure_attributes, ino)
        w.refresh.prefetch_attributes(1, 0)
        await trio.testing.wait_all_tasks_blocked()
        answered.set()
        await w.refresh.ensure_attributes(ino)
    assert requests(w) == (1, 0)


async def test_where_a_head_is_under_way_no_get_is_sent(w, nursery):
    w.store.foreign_put("file", b"12345", OURS)
    answered = trio.Event()
    w.store.held["head"] = answered.wait
    async with w.running():
        (ino,) = await listed(w, "file")
        nursery.start_soon(w.refresh.ensure_attributes, ino)
        await trio.testing.wait_all_tasks_blocked()
        assert await w.refresh.read_small(ino) is None
        answered.set()
        await w.refresh.ensure_attributes(ino)
        assert await w.refresh.read_small(ino) is None, "nothing to find out"
    assert requests(w) == (0, 1)


async def test_an_object_replaced_since_it_was_listed_is_found_out_by_head(w):
    w.store.foreign_put("file", b"old")
    async with w.running():
        (ino,) = await listed(w, "file")
        etag = w.store.foreign_put("file", b"newer", OURS)
        assert await w.refresh.read_small(ino) is None
    found = w.path("file")
    assert (found.remote.etag, found.size, found.uid) == (etag, 5, 7)
    assert w.cache.rebased == [ino]


async def test_an_archived_object_s_attributes_come_by_head(w):
    w.store.foreign_put("file", b"12345", OURS, storage_class="GLACIER")
    async with w.running():
        (ino,) = await listed(w, "file")
        assert await w.refresh.read_small(ino) is None
    assert w.path("file").uid == 7


async def test_an_object_that_is_gone_is_removed(w):
    w.store.foreign_put("file", b"12345")
    async with w.running():
        (ino,) = await listed(w, "file")
        w.store.foreign_delete("file")
        assert await w.refresh.read_small(ino) is None
    assert w.path("file") is None


async def test_an_answer_older_than_our_own_change_is_not_believed(w):
    w.store.foreign_put("file", b"12345", OURS)

    async def changed_meanwhile():
        w.refresh.note_own("file")

    w.store.held["get"] = changed_meanwhile
    async with w.running():
        (ino,) = await listed(w, "file")
        await w.refresh.read_small(ino)
        assert not w.path("file").attributes_known


async def test_who_waits_for_the_attributes_is_told_that_neither_request_was_answered(w, autojump_clock):
    w.store.foreign_put("file", b"12345")
    async with w.running():
        (ino,) = await listed(w, "file")
        w.store.offline = True
        with pytest.raises(StoreUnreachable):
            await w.refresh.read_small(ino)
        with pytest.raises(Unavailable):
            await w.refresh.ensure_attributes(ino)
        w.store.offline = False
        assert (await w.refresh.read_small(ino))[1] == b"12345"
