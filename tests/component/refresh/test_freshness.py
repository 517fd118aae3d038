"""Listings that are too old are renewed when somebody looks into the directory."""

import pytest
import trio

from gatewayfs.refresh.freshness import RETRY_S

TTL_S = 60.0


@pytest.fixture
def old(worlds):
    """A share with a TTL, ``a/f`` listed, ``a/new`` since put there by others, and the listing too old."""

    async def make(**settings):
        w = worlds(ttl_s=TTL_S, **settings)
        w.store.foreign_put("a/f")
        return w

    return make


async def listed(w):
    await w.list_everything()
    w.store.foreign_put("a/new")
    w.store.requests.clear()


async def test_a_listing_is_renewed_once_it_is_older_than_the_ttl_and_not_before(old):
    w = await old()
    async with w.running():
        await listed(w)
        w.clock.advance(TTL_S - 1)
        await w.refresh.ensure_fresh(w.path("a").ino)
        assert (w.store.requests, w.names("a")) == ([], ["f"])
        w.clock.advance(2)
        await w.refresh.ensure_fresh(w.path("a").ino)
        assert (w.store.requests, w.names("a")) == ([("list_page", "a/")], ["f", "new"])
        await w.refresh.ensure_fresh(w.path("a").ino)
        assert len(w.store.requests) == 1
        assert w.refresh.statistics().ttl_renewals == 1


async def test_many_who_look_share_one_list(old):
    w = await old()
    async with w.running():
        await listed(w)
        w.clock.advance(TTL_S + 1)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(w.refresh.ensure_fresh, w.path("a").ino)
    assert (w.store.requests, w.names("a")) == ([("list_page", "a/")], ["f", "new"])


async def test_without_a_ttl_nothing_is_ever_too_old(w):
    w.store.foreign_put("a/f")
    async with w.running():
        await listed(w)
        w.clock.advance(10**7)
        await w.refresh.ensure_fresh(w.path("a").ino)
    assert w.store.requests == []


async def test_a_clock_that_was_set_back_makes_a_listing_old(old):
    w = await old()
    async with w.running():
        await listed(w)
        w.clock.advance(-3600)
        await w.refresh.ensure_fresh(w.path("a").ino)
    assert w.names("a") == ["f", "new"]


async def test_stale_while_revalidate_answers_at_once_and_shows_the_rest_the_next_time(old):
    w = await old(stale_while_revalidate=True)
    async with w.running():
        await listed(w)
        w.clock.advance(TTL_S + 1)
        asked, held = trio.Event(), trio.Event()

        async def hook():
            asked.set()
            await held.wait()

        w.store.held["list_page"] = hook
        await w.refresh.ensure_fresh(w.path("a").ino)
        await asked.wait()
        assert w.names("a") == ["f"]
        held.set()
        await trio.testing.wait_all_tasks_blocked()
        assert w.names("a") == ["f", "new"]


async def test_without_the_network_what_is_known_counts_and_nobody_waits_twice(old, autojump_clock):
    w = await old(ttl_wait_s=3.0)
    async with w.running():
        await listed(w)
        await w.refresh.ensure_listed(w.path("").ino)
        w.clock.advance(TTL_S + 1)
        w.store.hang = True
        begun = trio.current_time()
        for _ in range(5):
            await w.refresh.ensure_fresh(w.path("a").ino)
            await w.refresh.ensure_fresh(1)
        assert trio.current_time() - begun == pytest.approx(3.0)
        assert w.names("a") == ["f"]
        w.store.hang = False
        await trio.sleep(200)
        await w.refresh.ensure_fresh(w.path("a").ino)
        assert w.names("a") == ["f", "new"]


async def test_what_cannot_be_renewed_is_not_tried_again_at_once(old, autojump_clock):
    """A directory made here and just being moved has no place in the bucket to be listed from."""
    w = await old()
    async with w.running():
        await listed(w)
        w.rename("a", "b")
        w.make("c", directory=True)
        w.clock.advance(TTL_S + 1)
        for path in ("b", "c"):
            await w.refresh.ensure_fresh(w.path(path).ino)
        count = len(w.store.requests)
        for path in ("b", "c"):
            await w.refresh.ensure_fresh(w.path(path).ino)
        assert len(w.store.requests) == count
        await trio.sleep(RETRY_S)


async def test_local_changes_survive_a_renewal(old):
    w = await old()
    async with w.running():
        await listed(w)
        w.edit("a/f")
        w.make("a/ours")
        w.store.foreign_put("a/f", b"theirs")
        w.clock.advance(TTL_S + 1)
        revision = w.path("a/f").content_revision
        await w.refresh.ensure_fresh(w.path("a").ino)
        assert w.names("a") == ["f", "new", "ours"]
        assert (w.path("a/f").content_revision, w.path("a/f").dirty_since_ns > 0) == (revision, True)
