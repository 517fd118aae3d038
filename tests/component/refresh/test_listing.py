"""Listing on first use: what an unlisted directory answers, what it costs, and what happens without a network."""

import tracemalloc

import pytest
import trio

from gatewayfs.errors import (
    NotADirectory,
    PermissionDenied,
    StaleInode,
    StoreAccessDenied,
    Unavailable,
)
from tests.component.refresh.harness import DEFAULTS, OURS, shown


async def test_a_listing_shows_files_directories_and_defaults_without_a_head(w):
    w.store.foreign_put("file", b"12345")
    w.store.foreign_put("dir/below", b"1")
    async with w.running():
        await w.refresh.ensure_listed(1)
    assert w.names() == ["dir/", "file"]
    found = w.path("file")
    assert (found.size, found.mode, found.uid, found.gid) == (5, 0o100640, DEFAULTS.uid, DEFAULTS.gid)
    assert not found.attributes_known
    assert found.mtime_ns == w.store.raw["file"].last_modified_ns
    assert w.path("dir").directory.source == "dir/"
    assert not w.path("dir").directory.complete
    assert w.path("").directory.complete
    assert w.store.requests == [("list_page", "")]


async def test_many_callers_share_one_listing(w):
    w.store.foreign_put("file")
    async with w.running(), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(w.refresh.ensure_listed, 1)
    assert w.store.count("list_page") == 1


async def test_a_complete_directory_is_not_listed_again(w):
    async with w.running():
        await w.refresh.ensure_listed(1)
        await w.refresh.ensure_listed(1)
        await w.refresh.ensure_name(1, b"nothing")
    assert w.store.count("list_page") == 1
    assert w.store.count("head") == 0


async def test_a_directory_made_here_is_complete_at_birth(w):
    ino = w.make("new", directory=True)
    async with w.running():
        await w.refresh.ensure_listed(ino)
        await w.refresh.ensure_name(ino, b"x")
        assert await w.refresh.entries_after(ino, 0, 10) == ([], True)
    assert w.store.requests == []


async def test_every_page_boundary_is_crossed(w):
    keys = [f"f{number:02}" for number in range(20)] + [f"d{number:02}/x" for number in range(20)] + ["e-", "e/x", "e"]
    for key in keys:
        w.store.foreign_put(key)
    for page in (1, 2, 3, 7):
        w.store.page_keys_max = page
        async with w.running():
            await w.refresh.refresh(["/"], True)
            await w.list_everything()
        assert w.tree() == shown(w.store)


async def test_a_share_below_a_prefix_sees_only_that(worlds):
    w = worlds(prefix="team/a/")
    w.store.foreign_put("team/a/file")
    w.store.foreign_put("team/a/", b"", OURS)
    w.store.foreign_put("team/b/other")
    async with w.running():
        await w.refresh.ensure_listed(1)
        assert w.names() == ["file"]
        await w.refresh.ensure_attributes(1)
    assert w.path("").remote.key == "team/a/"
    assert w.path("").uid == 7
    assert w.path("file").remote.key == "team/a/file"


async def test_the_marker_of_a_listed_directory_is_known_without_a_head(w):
    w.store.foreign_put("implicit/x")
    w.store.foreign_put("marked/", b"", OURS)
    async with w.running():
        await w.list_everything()
        assert w.store.count("head") == 0
        assert w.path("implicit").attributes_known
        assert w.path("implicit").remote is None
        assert not w.path("implicit").directory.marker_wanted
        assert not w.path("marked").attributes_known
        assert w.path("marked").remote.key == "marked/"
        await w.refresh.ensure_attributes(w.path("marked").ino)
    assert (w.path("marked").uid, w.path("marked").mtime_ns) == (7, 5000)


async def test_a_marker_with_data_is_a_directory(w):
    w.store.foreign_put("dir/", b"somebody put bytes here")
    async with w.running():
        await w.list_everything()
    assert w.names() == ["dir/"]
    assert w.names("dir") == []


async def test_a_file_is_hidden_by_a_directory_of_its_name_and_counted(w):
    w.store.foreign_put("both", b"file")
    w.store.foreign_put("both-", b"sorts between")
    w.store.foreign_put("both/below", b"1")
    for page in (1, 1000):
        w.store.page_keys_max = page
        async with w.running():
            await w.refresh.ensure_listed(1)
        assert w.names() == ["both-", "both/"]
        assert w.refresh.statistics().shadowed == 1
        assert w.refresh.statistics().shadowed_examples == ("both",)


async def test_keys_no_path_can_hold_are_counted_and_never_touched(w):
    hostile = ["//x", "/", "..", ".", "../up", "./here", "nul\0byte", "n" * 256, "d//x", "d/../y", "d/./z"]
    for key in [*hostile, "ok", "n" * 255, "c\x01control", "ü", "u\u0308"]:
        w.store.foreign_put(key)
    async with w.running():
        await w.list_everything()
    assert set(w.names()) == {"ok", "n" * 255, "c\x01control", "ü", "u\u0308", "d/"}
    assert w.names("d") == []
    statistics = w.refresh.statistics()
    assert statistics.unrepresentable == 10  # "/" and "//x" are one common prefix
    assert "d/../" in statistics.unrepresentable_examples
    assert set(hostile) < set(w.store.raw)
    assert {name for name, _ in w.store.requests} == {"list_page"}


# ---------------------------------------------------------------------- one name


async def test_a_name_on_the_first_page_costs_one_request(w):
    w.store.page_keys_max = 5
    for number in range(50):
        w.store.foreign_put(f"f{number:02}")
    released = trio.Event()
    async with w.running():
        await w.refresh.ensure_name(1, b"f03")
        assert w.path("f03") is not None
        await w.refresh.ensure_name(1, b"f001")
        assert w.path("f001") is None
        assert w.store.count("head") == 0
        released.set()


async def test_a_name_beyond_the_first_page_is_asked_for_directly(w):
    w.store.page_keys_max = 5
    for number in range(50):
        w.store.foreign_put(f"f{number:02}", b"x", OURS)
    w.store.foreign_put("z/below")
    gate = _hold_after_first_page(w)
    async with w.running():
        await w.refresh.ensure_name(1, b"f40")
        assert w.path("f40").attributes_known
        assert w.path("f40").uid == 7
        await w.refresh.ensure_name(1, b"z")
        assert w.path("z").is_directory
        await w.refresh.ensure_name(1, b"nothing")
        assert w.path("nothing") is None
        assert not w.path("").directory.complete
        assert w.refresh.statistics().probes == 3
        gate.set()
        await w.refresh.ensure_listed(1)
        await w.refresh.ensure_attributes(w.path("f40").ino)
    assert len(w.names()) == 51
    assert w.store.count("head", "f40") == 1


async def test_lookups_of_one_name_share_the_probe(w):
    w.store.page_keys_max = 1
    for name in "abc":
        w.store.foreign_put(name)
    gate = _hold_after_first_page(w)
    async with w.running():
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(w.refresh.ensure_name, 1, b"c")
        gate.set()
    assert w.store.count("head", "c") == 1


async def test_a_file_is_passed_only_when_its_directory_is_too(w):
    """ "n-" sorts between "n" and "n/": a listing that ends there has not decided "n"."""
    for key in ("n-", "n/below"):
        w.store.foreign_put(key)
    w.store.page_keys_max = 1
    gate = _hold_after_first_page(w)
    async with w.running():
        await w.refresh.ensure_name(1, b"n")
        assert w.path("n").is_directory
        gate.set()
        await w.refresh.ensure_listed(1)
    assert w.names() == ["n-", "n/"]


async def test_a_name_that_appears_after_a_negative_answer_is_told_to_the_kernel(w):
    w.store.page_keys_max = 1
    for name in "ab":
        w.store.foreign_put(name)
    gate = _hold_after_first_page(w)
    async with w.running():
        await w.refresh.ensure_name(1, b"late")
        w.store.foreign_put("late")
        gate.set()
        await w.refresh.ensure_listed(1)
    assert (1, b"late", 0) in w.kernel.entries
    assert w.refresh.statistics().last_error == ""


async def test_names_that_cannot_be_keys_are_not_asked_for(w):
    w.store.hang = True
    async with w.running():
        await w.refresh.ensure_name(1, b"\xff")
    assert w.store.requests == []


async def test_a_name_in_a_file_is_not_a_directory(w):
    w.make("file")
    async with w.running():
        with pytest.raises(NotADirectory):
            await w.refresh.ensure_name(w.path("file").ino, b"x")
        with pytest.raises(NotADirectory):
            await w.refresh.ensure_listed(w.path("file").ino)
        with pytest.raises(StaleInode):
            await w.refresh.ensure_listed(999)


def _hold_after_first_page(w):
    """The listing's second page waits for the event; probes (LIST of one key) do not."""
    gate = trio.Event()
    original = w.store.list_page

    async def list_page(prefix, *, delimiter, token="", start_after="", max_keys=1000):
        if token and delimiter:
            await gate.wait()
        return await original(prefix, delimiter=delimiter, token=token, start_after=start_after, max_keys=max_keys)

    w.store.list_page = list_page
    return gate


# ---------------------------------------------------------------------- streams


async def test_a_large_directory_streams_its_first_entries_after_one_request_and_stays_small(w):
    total = 20_000
    for number in range(total):
        w.store.foreign_put(f"f{number:06}")
    gate = _hold_after_first_page(w)
    async with w.running():
        first, complete = await w.refresh.entries_after(1, 0, 100)
        assert len(first) == 100
        assert not complete
        assert w.store.count("list_page") == 1
        gate.set()
        tracemalloc.start()
        seen, after = [], 0
        while True:
            batch, complete = await w.refresh.entries_after(1, after, 500)
            seen += batch
            after = batch[-1] if batch else after
            if complete:
                break
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(seen) == total
    assert seen == sorted(set(seen))
    assert w.store.count("list_page") == total // 1000
    assert w.store.count("head") == 0
    # The records that wait for their commit dominate, and this test never commits: some 900 bytes each.
    assert peak < 2500 * total


async def test_readdir_of_an_empty_bucket_ends(w):
    async with w.running():
        assert await w.refresh.entries_after(1, 0, 10) == ([], True)


async def test_no_stretch_of_a_listing_keeps_the_loop_long(w):
    for number in range(5000):
        w.store.foreign_put(f"f{number:06}")
    longest = 0.0

    async def watch():
        nonlocal longest
        while True:
            before = trio.current_time()
            await trio.lowlevel.checkpoint()
            longest = max(longest, trio.current_time() - before)

    async with w.running(), trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await w.refresh.ensure_listed(1)
        nursery.cancel_scope.cancel()
    assert longest < 0.2  # measured 10 ms alone; the machine is shared


# ---------------------------------------------------------------------- no network


async def test_offline_every_question_ends_with_a_reason_by_its_deadline_and_recovers(worlds, autojump_clock):
    w = worlds(deadline_s=30)
    w.store.foreign_put("file")
    w.store.offline = True
    async with w.running():
        for ask in (
            lambda: w.refresh.ensure_listed(1),
            lambda: w.refresh.ensure_name(1, b"file"),
            lambda: w.refresh.entries_after(1, 0, 10),
            lambda: w.refresh.longest_below(1),
            lambda: w.refresh.refresh(["/new"], True),
        ):
            started = trio.current_time()
            with pytest.raises(Unavailable, match="no route"):
                await ask()
            assert 20 < trio.current_time() - started <= 30
        w.store.offline = False
        await w.refresh.ensure_name(1, b"file")
        assert w.path("file") is not None
        await w.refresh.ensure_listed(1)
    assert w.refresh.statistics().last_error == "no route to the bucket"


async def test_a_network_that_comes_back_within_the_deadline_is_not_noticed(worlds, autojump_clock):
    w = worlds(deadline_s=30)
    w.store.foreign_put("file")
    w.store.offline = True
    async with w.running(), trio.open_nursery() as nursery:
        nursery.start_soon(w.refresh.ensure_listed, 1)
        await trio.sleep(15)
        w.store.offline = False
    assert w.names() == ["file"]


async def test_a_bucket_that_never_answers_is_given_up_too(worlds, autojump_clock):
    w = worlds(deadline_s=10, request_timeout_s=20)
    w.store.hang = True
    async with w.running():
        with pytest.raises(Unavailable, match="in time"):
            await w.refresh.ensure_listed(1)
        assert trio.current_time() == pytest.approx(10, abs=1)
        await trio.sleep(30)
        w.store.hang = False
        await w.refresh.ensure_listed(1)


async def test_denied_is_denied_at_once(w):
    w.store.failures = [StoreAccessDenied("AccessDenied: ListObjectsV2")]
    async with w.running():
        with pytest.raises(PermissionDenied, match="ListObjectsV2"):
            await w.refresh.ensure_listed(1)
        await w.refresh.ensure_listed(1)


async def test_before_the_start_and_after_the_end_nothing_hangs(w):
    with pytest.raises(Unavailable):
        await w.refresh.ensure_listed(1)
    async with w.running():
        pass
    with pytest.raises(Unavailable):
        await w.refresh.ensure_name(1, b"x")


async def test_a_caller_that_gives_up_does_not_stop_the_others(w):
    w.store.foreign_put("file")
    gate = trio.Event()
    w.store.held["list_page"] = gate.wait
    async with w.running(), trio.open_nursery() as nursery:
        nursery.start_soon(w.refresh.ensure_listed, 1)
        with trio.move_on_after(0.01):
            await w.refresh.ensure_listed(1)
        gate.set()
    assert w.names() == ["file"]
    assert w.store.count("list_page") == 1


async def test_the_longest_key_below_is_found_without_listing_into_the_records(w):
    for key in ("d/a", "d/sub/ü", "e/longer than those"):
        w.store.foreign_put(key)
    async with w.running():
        await w.refresh.ensure_listed(1)
        assert await w.refresh.longest_below(w.path("d").ino) == len("sub/ü".encode())
        assert await w.refresh.longest_below(1) == len("e/longer than those")
    assert w.names("d") == []
