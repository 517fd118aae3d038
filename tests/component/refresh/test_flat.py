"""A whole tree compared with one stream of LISTs."""

import pytest
import trio

from gatewayfs.refresh.estimate import Estimate, estimate
from tests.component.refresh.harness import Hooked, shown


def put_tree(w, directories, files, under=""):
    for number in range(directories):
        for file in range(files):
            w.store.foreign_put(f"{under}d{number:04}/f{file}", b"1")


async def test_many_small_directories_cost_a_list_per_thousand_names(w):
    put_tree(w, 800, 5)
    async with w.running():
        await w.list_everything()
        w.store.requests.clear()
        report = await w.refresh.refresh()
    assert w.store.requests == [("list_page", "")] * 4, "4000 objects"
    assert (report.listed, report.names, report.lists, report.heads) == (801, 4800, 4, 0)


async def test_trees_nobody_has_looked_at_are_jumped_over(w):
    put_tree(w, 40, 3)
    for number in range(2500):
        w.store.foreign_put(f"d0020-unknown/x{number}")
    async with w.running():
        await w.refresh.ensure_listed(1)
        for ino in w.meta.children(1, 0, 100):
            if b"unknown" not in w.meta.require(ino).name:
                await w.refresh.ensure_listed(ino)
        w.store.foreign_put("d0039/new")
        w.store.requests.clear()
        report = await w.refresh.refresh()
    assert w.store.requests == [("list_page", "")] * 2
    assert report.added == 1
    assert w.names("d0020-unknown") == []


@pytest.mark.parametrize(("unknown", "streams"), [(0, True), (20, False)])
async def test_what_costs_fewer_lists_is_done(w, unknown, streams):
    put_tree(w, 10, 3)
    async with w.running():
        await w.list_everything()
        for number in range(unknown):
            w.store.foreign_put(f"unknown{number}/x")
        await w.refresh.refresh(["/"], False)
        found = await estimate(w.meta, 1, lambda _: False)
    assert (found.names, found.single, found.unknown, found.below) == (40 + unknown, 11, unknown, 10 + unknown)
    assert found.streams is streams


def test_long_streams_are_split_where_that_costs_little():
    assert Estimate(names=50_000, single=2000, below=1000).streams
    assert not Estimate(names=1_000_000, single=20_000, below=20).streams, "twenty streams, four at a time"
    assert Estimate(names=1_000_000, single=20_000, below=20_000).streams


async def test_a_store_that_lists_in_no_order_is_asked_directory_by_directory(worlds):
    class Shuffled(Hooked):
        async def list_page(self, prefix, **arguments):
            page = await super().list_page(prefix, **arguments)
            page.objects.reverse()
            return page

    w = worlds(store=Shuffled())
    put_tree(w, 5, 3)
    async with w.running():
        await w.list_everything()
        w.store.foreign_put("d0003/new")
        w.store.foreign_delete("d0004/f1")
        report = await w.refresh.refresh()
        assert w.tree() == shown(w.store)
    assert (report.added, report.removed, report.errors) == (1, 1, ())


async def test_what_happens_here_beside_the_stream_is_right_in_the_end(w):
    """Directories on the way are renamed, removed, made and listed by others while the stream passes."""
    put_tree(w, 30, 3)
    w.store.page_keys_max = 5
    acts = {
        2: lambda: w.rename("d0001", "e0001"),
        3: lambda: w.rename("d0003/f1", "d0025/f9"),
        4: lambda: w.remove("d0028"),
        5: lambda: w.edit("d0010/f1"),
        6: lambda: w.remove("d0003/f0"),
    }
    async with w.running():
        await w.list_everything()
        w.store.foreign_delete("d0029/f1")
        w.store.foreign_put("d0027/new")
        pages = 0

        async def hook():
            nonlocal pages
            pages += 1
            acts.get(pages, lambda: None)()

        w.store.held["list_page"] = hook
        report = await w.refresh.refresh()
        assert pages > 15
        assert w.names("d0027") == ["f0", "f1", "f2", "new"]
        assert w.names("d0029") == ["f0", "f2"]
        assert w.names("e0001") == ["f0", "f1", "f2"]
        assert w.names("d0003") == ["f2"]
        assert w.names("d0025") == ["f0", "f1", "f2", "f9"]
        assert w.path("d0028") is w.path("d0001") is None
        assert (report.added, report.removed, report.kept_dirty) == (1, 1, 0)
        assert w.path("d0010/f1").dirty_since_ns


async def test_a_directory_that_somebody_lists_just_now_gets_a_listing_of_its_own(w, nursery):
    put_tree(w, 10, 2)
    async with w.running():
        await w.list_everything()
        w.store.foreign_put("d0005/new")
        listing = trio.Event()

        async def hook():
            listing.set()
            w.store.held.clear()
            await trio.testing.wait_all_tasks_blocked(0.01)

        w.store.held["list_page"] = hook
        other = w.path("d0005")
        nursery.start_soon(lambda: w.refresh.refresh(["/d0005"], False))
        await listing.wait()
        report = await w.refresh.refresh()
    assert (w.names("d0005"), report.listed) == (["f0", "f1", "new"], 11)
    assert w.path("d0005").directory.listed_ns > other.directory.listed_ns


async def test_no_stretch_of_a_refresh_keeps_the_loop_long(w):
    """Every transaction is small: between any two checkpoints there is work for a few milliseconds."""
    put_tree(w, 300, 20)
    async with w.running():
        await w.list_everything()
        for number in range(0, 300, 2):
            for file in range(20):
                w.store.foreign_delete(f"d{number:04}/f{file}")
                w.store.foreign_put(f"d{number + 1:04}/f{file}", b"22")
        longest = 0.0
        async with trio.open_nursery() as nursery:

            async def probe():
                nonlocal longest
                while True:
                    before = trio.current_time()
                    await trio.lowlevel.checkpoint()
                    longest = max(longest, trio.current_time() - before)

            nursery.start_soon(probe)
            report = await w.refresh.refresh()
            nursery.cancel_scope.cancel()
    assert (report.removed, report.changed) == (150 * 21, 150 * 20)
    assert longest < 0.5, "50 ms are promised; ten times that is left for a machine that is busy"
