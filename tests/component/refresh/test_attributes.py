"""HEAD on demand and ahead: once per file, in the right order, and what it says is news."""

import stat

import pytest
import trio

from gatewayfs.errors import InvalidArgument, NoEntry, PermissionDenied, StoreAccessDenied, Unavailable
from gatewayfs.meta.schema import Headers
from gatewayfs.s3.store import InlineBody, ObjectHeaders
from tests.component.refresh.harness import DEFAULTS, OURS, replace

LINK = {"file-permissions": "0120777"}


async def test_attributes_are_asked_once_and_kept(w):
    headers = ObjectHeaders(content_type="text/plain", cache_control="no-cache")
    w.store.foreign_put("file", b"12345", OURS | {"colour": "blue", "file-atime": "6000ns"}, headers)
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("file").ino
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(w.refresh.ensure_attributes, ino)
        await w.refresh.ensure_attributes(ino)
    found = w.path("file")
    assert (found.mode, found.uid, found.gid) == (stat.S_IFREG | 0o600, 7, 8)
    assert (found.mtime_ns, found.atime_ns, found.size) == (5000, 6000, 5)
    assert found.foreign == {"colour": "blue"}
    assert (found.headers.content_type, found.headers.cache_control) == ("text/plain", "no-cache")
    assert (found.content_revision, found.meta_revision, found.dirty_since_ns) == (0, 0, 0)
    assert w.store.count("head") == 1
    assert w.refresh.statistics().heads == 1


async def test_an_object_without_metadata_has_the_share_s_defaults(w):
    w.store.foreign_put("file", b"x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        await w.refresh.ensure_attributes(w.path("file").ino)
    found = w.path("file")
    assert (found.mode, found.uid, found.gid) == (0o100640, DEFAULTS.uid, DEFAULTS.gid)
    assert found.mtime_ns == w.store.raw["file"].last_modified_ns
    assert found.foreign is None
    assert found.headers == Headers()


async def test_types_come_with_the_attributes(w):
    w.store.foreign_put("link", b"some/target", LINK)
    w.store.foreign_put("pipe", b"", {"file-permissions": "0010644"})
    w.store.foreign_put("sock", b"", {"file-permissions": "0140600"})
    async with w.running():
        await w.refresh.ensure_listed(1)
        for name in ("link", "pipe", "sock"):
            await w.refresh.ensure_attributes(w.path(name).ino)
    assert w.path("link").mode == 0o120777
    assert w.path("link").size == len("some/target")
    assert w.path("link").target is None
    assert stat.S_ISFIFO(w.path("pipe").mode)
    assert stat.S_ISSOCK(w.path("sock").mode)


async def test_an_unlisted_directory_s_marker_is_found_or_found_missing(w):
    w.store.foreign_put("implicit/x")
    w.store.foreign_put("marked/", b"", OURS)
    async with w.running():
        await w.refresh.ensure_listed(1)
        for name in ("implicit", "marked"):
            await w.refresh.ensure_attributes(w.path(name).ino)
    assert w.path("implicit").remote is None
    assert w.path("implicit").mode == 0o040750
    assert w.path("marked").uid == 7
    assert w.path("marked").directory.marker_wanted
    assert w.path("marked").remote.key == "marked/"
    assert not w.path("marked").dirty_since_ns


async def test_an_object_that_changed_since_it_was_listed_is_replaced(w):
    w.store.foreign_put("file", b"old")
    async with w.running():
        await w.refresh.ensure_listed(1)
        before = w.path("file")
        etag = w.store.foreign_put("file", b"newer", OURS)
        await w.refresh.ensure_attributes(before.ino)
    found = w.path("file")
    assert found.ino == before.ino
    assert (found.remote.etag, found.size, found.uid) == (etag, 5, 7)
    assert found.content_revision == found.remote.content_revision != before.content_revision
    assert w.cache.rebased == [found.ino]
    assert (found.ino, False) in w.kernel.inodes


async def test_an_object_that_is_gone_is_removed(w):
    w.store.foreign_put("file")
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("file").ino
        w.store.foreign_delete("file")
        with pytest.raises(NoEntry):
            await w.refresh.ensure_attributes(ino)
    assert w.path("file") is None
    assert w.meta.inode(ino) is None
    assert (1, b"file", ino) in w.kernel.entries
    assert w.cache.forgotten == [ino]


async def test_an_open_file_that_is_gone_lives_on_without_a_name(w):
    w.store.foreign_put("file", b"data")
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("file").ino
        w.cache.opens[ino] = 1
        w.store.foreign_delete("file")
        with pytest.raises(NoEntry):
            await w.refresh.recheck(ino)
        assert w.path("file") is None
        assert list(w.meta.iter_orphans()) == [ino]
        assert w.cache.forgotten == []
        # Its key is free for whoever comes next.
        w.store.foreign_put("file", b"another")
        await w.refresh.refresh(["/"], True)
    assert w.path("file").ino != ino


async def test_a_renamed_file_whose_object_is_gone_keeps_its_name(w):
    """The uploader must find out: there may be bytes here."""
    w.store.foreign_put("file")
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.rename("file", "renamed")
        w.store.foreign_delete("file")
        await w.refresh.ensure_attributes(w.path("renamed").ino)
    assert w.path("renamed").attributes_known
    assert w.path("renamed").remote.key == "file"


async def test_recheck_brings_in_what_changed_under_known_attributes(w):
    w.store.foreign_put("file", b"one", OURS)
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("file").ino
        await w.refresh.ensure_attributes(ino)
        w.store.foreign_put("file", b"two, longer", OURS | {"file-owner": "9"})
        await w.refresh.recheck(ino)
        assert (w.path("file").size, w.path("file").uid) == (11, 9)
        assert w.cache.rebased == [ino]
        await w.refresh.recheck(ino)
        assert w.cache.rebased == [ino]
        w.edit("file")
        w.store.foreign_put("file", b"three")
        await w.refresh.recheck(ino)
    assert w.path("file").remote.size == 11, "a dirty file's conflict is the uploader's"


async def test_recheck_does_not_settle_for_an_answer_that_was_on_its_way_already(w):
    w.store.foreign_put("file", b"old")
    answered = trio.Event()
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("file").ino
        w.store.held["head"] = answered.wait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.refresh.ensure_attributes, ino)
            await trio.testing.wait_all_tasks_blocked()
            w.store.foreign_put("file", b"newer")
            nursery.start_soon(w.refresh.recheck, ino)
            await trio.testing.wait_all_tasks_blocked()
            answered.set()
    assert w.path("file").size == 5


@pytest.mark.parametrize("replaced", [True, False])
async def test_an_unlinked_open_file_can_still_be_looked_at(w, replaced):
    w.store.foreign_put("file", b"old", OURS)
    async with w.running():
        await w.refresh.ensure_listed(1)
        inode = w.path("file")
        w.cache.opens[inode.ino] = 1
        with w.meta.transaction() as tx:
            tx.put(replace(inode, parent=0, name=b""))
        if replaced:
            w.store.foreign_put("file", b"another")
        else:
            w.store.foreign_delete("file")
        await w.refresh.ensure_attributes(inode.ino)
    assert w.meta.require(inode.ino).attributes_known
    assert w.meta.require(inode.ino).size == 3
    assert w.cache.rebased == []


async def test_an_answer_older_than_our_own_upload_is_not_believed(w):
    """HEAD was answered, then our PUT finished, then HEAD's answer arrived."""
    w.store.foreign_put("file", b"old", {"file-owner": "1"})
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("file").ino

        async def upload():
            w.store.held.clear()
            sent = await w.uploads.put("file", InlineBody(b"newer"), {"file-owner": "2"})
            with w.meta.transaction() as tx:
                inode = tx.require(ino)
                tx.put(replace(inode, size=5, remote=replace(inode.remote, etag=sent.etag, size=5)))

        w.store.held["head"] = upload
        await w.refresh.ensure_attributes(ino)
    assert w.path("file").uid == 2
    assert w.path("file").size == 5
    assert w.store.count("head") == 2


async def test_transient_failures_are_retried_and_refusals_are_not(w, autojump_clock):
    w.store.foreign_put("file")
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("file").ino
        w.store.failures = [StoreAccessDenied("AccessDenied: HeadObject")]
        with pytest.raises(PermissionDenied):
            await w.refresh.ensure_attributes(ino)
        w.store.offline = True
        started = trio.current_time()
        with pytest.raises(Unavailable):
            await w.refresh.ensure_attributes(ino)
        assert 20 < trio.current_time() - started <= 30
        w.store.offline = False
        await w.refresh.ensure_attributes(ino)
    assert w.path("file").attributes_known


# ---------------------------------------------------------------------- ahead of a reader


async def test_a_reader_in_order_waits_for_few_of_many(w):
    for number in range(300):
        w.store.foreign_put(f"f{number:03}", b"", OURS)
    async with w.running():
        await w.refresh.ensure_listed(1)
        rounds = 0
        for ino in w.meta.children(1):
            w.refresh.prefetch_attributes(1, ino)
            if not w.meta.require(ino).attributes_known:
                rounds += 1
                await w.refresh.ensure_attributes(ino)
                await trio.testing.wait_all_tasks_blocked()
    assert w.store.count("head") == 300, "each file once"
    assert rounds < 30


async def test_whoever_asks_for_neighbours_is_read_ahead_and_a_lone_question_costs_one_request(w):
    for number in range(300):
        w.store.foreign_put(f"f{number:03}", b"", OURS)
    async with w.running():
        await w.refresh.ensure_listed(1)
        children = w.meta.children(1)
        await w.refresh.ensure_attributes(children[250])
        await w.refresh.ensure_attributes(children[100])
        await trio.testing.wait_all_tasks_blocked()
        assert w.store.count("head") == 2
        rounds = 0
        for ino in children:
            if not w.meta.require(ino).attributes_known:
                rounds += 1
                await w.refresh.ensure_attributes(ino)
                await trio.testing.wait_all_tasks_blocked()
    assert w.store.count("head") == 300, "each file once"
    assert rounds < 15


async def test_reading_ahead_never_delays_what_is_demanded(worlds):
    w = worlds(head_concurrency=10, head_reserved=3)
    for number in range(100):
        w.store.foreign_put(f"f{number:03}", b"", OURS)
    gate = trio.Event()
    async with w.running():
        await w.refresh.ensure_listed(1)
        children = w.meta.children(1)
        w.store.held["head"] = gate.wait
        for ino in children[:40:4]:
            w.refresh.prefetch_attributes(1, ino)
        await trio.testing.wait_all_tasks_blocked()
        assert w.refresh.statistics().heads_in_flight == 7
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.refresh.ensure_attributes, children[-1])
            await trio.testing.wait_all_tasks_blocked()
            assert w.store.count("head", "f099") == 1
            gate.set()


async def test_what_was_read_ahead_is_not_asked_again_and_demand_overtakes(worlds):
    w = worlds(head_concurrency=3, head_reserved=2)
    for number in range(20):
        w.store.foreign_put(f"f{number:03}", b"", OURS)
    gate = trio.Event()
    async with w.running():
        await w.refresh.ensure_listed(1)
        children = w.meta.children(1)
        w.store.held["head"] = gate.wait
        w.refresh.prefetch_attributes(1, children[0])
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.refresh.ensure_attributes, children[8])
            await trio.testing.wait_all_tasks_blocked()
            assert [key for name, key in w.store.requests if name == "head"] == ["f001", "f008"]
            gate.set()
        await trio.testing.wait_all_tasks_blocked()
    heads = [key for name, key in w.store.requests if name == "head"]
    assert len(heads) == len(set(heads))


async def test_reading_ahead_can_be_called_off(worlds):
    w = worlds(head_concurrency=3, head_reserved=2)
    for number in range(20):
        w.store.foreign_put(f"f{number:03}", b"", OURS)
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.refresh.prefetch_attributes(1, w.meta.children(1)[0])
        w.refresh.cancel_prefetch(1)
        await trio.testing.wait_all_tasks_blocked()
        assert w.refresh.statistics().heads_waiting == 0
        await w.refresh.ensure_attributes(w.path("f005").ino)
    assert w.store.count("head") <= 2


async def test_reading_ahead_fails_in_silence(w):
    for number in range(20):
        w.store.foreign_put(f"f{number:03}", b"", OURS)
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.store.offline = True
        w.refresh.prefetch_attributes(1, w.meta.children(1)[0])
        await trio.testing.wait_all_tasks_blocked()
        w.store.offline = False
        await w.refresh.ensure_attributes(w.path("f003").ino)
    assert w.path("f003").uid == 7


# ---------------------------------------------------------------------- symlinks


async def test_a_symlink_s_target_is_read_once(w):
    w.store.foreign_put("link", "zum/Zi\u00e9l".encode(), LINK)
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("link").ino
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(w.refresh.read_target, ino)
        assert await w.refresh.read_target(ino) == "zum/Zi\u00e9l".encode()
    assert w.path("link").target == "zum/Zi\u00e9l".encode()
    assert w.path("link").size == len("zum/Zi\u00e9l".encode())
    assert w.store.count("get") == 1


async def test_an_unusable_target_is_refused(w):
    w.store.foreign_put("link", b"nul\0byte", LINK)
    async with w.running():
        await w.refresh.ensure_listed(1)
        with pytest.raises(Unavailable, match="link"):
            await w.refresh.read_target(w.path("link").ino)


@pytest.mark.parametrize("data", [b"", b"x" * 4081, b"x" * 100_000])
async def test_what_cannot_be_a_target_is_a_file(w, data):
    w.store.foreign_put("link", data, LINK)
    async with w.running():
        await w.refresh.ensure_listed(1)
        with pytest.raises(InvalidArgument):
            await w.refresh.read_target(w.path("link").ino)
    assert w.path("link").is_regular
    assert w.path("link").size == len(data)


async def test_a_target_that_is_kept_in_metadata_is_read_there_and_survives_a_chmod(w):
    w.store.foreign_put("link", b"", {"--symlink-target": "a/b"})
    async with w.running():
        await w.refresh.ensure_listed(1)
        assert await w.refresh.read_target(w.path("link").ino) == b"a/b"
    assert (w.path("link").size, w.path("link").foreign) == (3, {"--symlink-target": "a/b"})
    assert w.store.count("get") == 0


async def test_the_longest_target_fits(w):
    w.store.foreign_put("link", b"x" * 4080, LINK)
    async with w.running():
        await w.refresh.ensure_listed(1)
        assert await w.refresh.read_target(w.path("link").ino) == b"x" * 4080


async def test_only_symlinks_have_targets(w):
    w.store.foreign_put("file", b"x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        with pytest.raises(InvalidArgument):
            await w.refresh.read_target(w.path("file").ino)


async def test_a_symlink_changed_meanwhile_gives_its_new_target(w):
    w.store.foreign_put("link", b"old", LINK)
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("link").ino
        await w.refresh.ensure_attributes(ino)
        w.store.foreign_put("link", b"newer", LINK)
        assert await w.refresh.read_target(ino) == b"newer"
        w.store.foreign_delete("link")
        assert await w.refresh.read_target(ino) == b"newer"


async def test_a_symlink_that_went_before_it_was_read_is_gone(w):
    w.store.foreign_put("link", b"old", LINK)
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("link").ino
        await w.refresh.ensure_attributes(ino)
        w.store.foreign_delete("link")
        with pytest.raises(NoEntry):
            await w.refresh.read_target(ino)


async def test_a_file_that_became_a_symlink_is_one(w):
    w.store.foreign_put("thing", b"data", OURS)
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("thing").ino
        await w.refresh.ensure_attributes(ino)
        w.store.foreign_put("thing", b"there", LINK)
        await w.refresh.refresh(["/"], True)
        assert await w.refresh.read_target(ino) == b"there"
    assert w.path("thing").is_symlink
    assert (1, b"thing", 0) in w.kernel.entries
