"""Keys that are said to have changed: what the bucket has there now appears, for at most one HEAD, and nothing else."""

import random
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatewayfs.errors import StoreUnreachable
from gatewayfs.meta.schema import Attempt, UploadState
from gatewayfs.refresh.looking import Outcome
from gatewayfs.refresh.notices import Notice
from gatewayfs.s3.store import InlineBody
from tests.component.refresh.harness import OURS, World, replace, shown
from tests.component.refresh.test_histories import KEYS, MARKERS, ODD, QUIET, Player
from tests.sim.program import FAST

LOOKED, NOTHING = Outcome.LOOKED, Outcome.NOTHING


async def look(w, key, **hints):
    w.store.requests.clear()
    w.kernel.forget()
    return await w.refresh.look_again(Notice(w.prefix + key, **hints))


@pytest.fixture(params=["", "site/a/"])
def w(request, worlds):
    return worlds(prefix=request.param)


# ------------------------------------------------------------------ files


@pytest.mark.semantics("foreign-change-told")
async def test_a_new_object_appears_with_its_attributes_for_one_head(w):
    w.store.foreign_put(w.prefix + "d/old")
    async with w.running():
        await w.list_everything()
        before = w.path("d")
        w.store.foreign_put(w.prefix + "d/new", b"123", OURS)
        assert await look(w, "d/new", etag="whatever") is LOOKED
        assert w.store.requests == [("head", w.prefix + "d/new")]
        found = w.path("d/new")
        assert (found.size, found.uid, found.mode & 0o777, found.attributes_known) == (3, 7, 0o600, True)
        assert (before.ino, b"new", 0) in w.kernel.entries
        assert (before.ino, False) in w.kernel.inodes
        assert w.path("d").mtime_ns > before.mtime_ns
        assert not w.path("d").dirty_since_ns


async def test_an_overwritten_object_changes_and_an_equal_one_does_not(w):
    w.store.foreign_put(w.prefix + "f", b"1", OURS)
    async with w.running():
        await w.list_everything()
        await w.refresh.ensure_attributes(w.path("f").ino)
        ino = w.path("f").ino
        assert await look(w, "f") is LOOKED
        assert (w.kernel.inodes, w.kernel.entries, w.cache.rebased) == ([], [], [])
        w.store.foreign_put(w.prefix + "f", b"22", OURS)
        assert await look(w, "f") is LOOKED
        assert w.store.requests == [("head", w.prefix + "f")]
        assert (w.path("f").size, w.cache.rebased, w.kernel.inodes) == (2, [ino], [(ino, False)])
        assert w.path("f").attributes_known
        w.store.foreign_put(w.prefix + "f", b"22", OURS | {"file-owner": "99"})
        assert await look(w, "f") is LOOKED
        assert (w.path("f").uid, w.cache.rebased) == (99, [ino])


async def test_a_deleted_object_goes_and_what_is_said_of_it_decides_nothing(w):
    w.store.foreign_put(w.prefix + "f")
    async with w.running():
        await w.list_everything()
        ino = w.path("f").ino
        assert await look(w, "f", gone=True) is LOOKED, "it is still there, whatever is said"
        assert w.path("f").ino == ino
        w.store.foreign_delete(w.prefix + "f")
        assert await look(w, "f", etag="of something") is LOOKED
        assert w.store.requests == [("head", w.prefix + "f")]
        assert w.path("f") is None
        assert w.kernel.entries == [(1, b"f", ino)]
        assert await look(w, "f", gone=True) is NOTHING
        assert w.store.requests == []


async def test_an_open_file_that_others_deleted_lives_on_without_a_name(w):
    w.store.foreign_put(w.prefix + "f")
    async with w.running():
        await w.list_everything()
        ino = w.path("f").ino
        w.cache.opens[ino] = 1
        w.store.foreign_delete(w.prefix + "f")
        await look(w, "f")
        assert (w.path("f"), w.meta.require(ino).linked) == (None, False)
        w.store.foreign_put(w.prefix + "f", b"another")
        await look(w, "f")
        assert w.path("f").ino != ino


# ------------------------------------------------------------------ what costs nothing


async def test_below_a_directory_nobody_has_listed_nothing_is_asked(w):
    w.store.foreign_put(w.prefix + "d/e/x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        for key in ("d/new", "d/e/x", "d/e/new/y"):
            assert await look(w, key) is NOTHING
            assert w.store.requests == []
        await w.refresh.ensure_listed(w.path("d").ino)
        assert await look(w, "d/e/x") is NOTHING


async def test_a_name_that_is_known_of_an_unlisted_directory_is_looked_at(w):
    w.store.page_keys_max = 1
    for number in range(5):
        w.store.foreign_put(w.prefix + f"d/{number}")
    async with w.running():
        await w.refresh.ensure_listed(1)
        directory = w.path("d").ino

        async def stuck():
            await trio.sleep_forever()

        await w.refresh.ensure_name(directory, b"3")
        w.store.held["list_page"] = stuck
        assert not w.path("d").directory.complete
        w.store.foreign_delete(w.prefix + "d/3")
        await look(w, "d/3")
        assert w.path("d/3") is None


async def test_our_own_uploads_come_back_and_cost_nothing(w):
    w.refresh.expect_notices()
    w.store.foreign_put(w.prefix + "f", b"1", OURS)
    async with w.running():
        await w.list_everything()

        async def upload(content, metadata=OURS):
            sent = await w.uploads.put(w.prefix + "f", InlineBody(content), metadata)
            with w.meta.transaction() as tx:
                inode = w.path("f")
                remote = replace(inode.remote, etag=sent.etag, size=len(content), last_modified_ns=0)
                tx.put(replace(inode, remote=remote, size=len(content)))
            return sent.etag

        etag = await upload(b"ours")
        assert await look(w, "f", etag=etag) is NOTHING
        assert w.store.requests == []
        # The same again is one more than we wrote: somebody may have changed its metadata.
        w.store.foreign_put(w.prefix + "f", b"ours", OURS | {"file-owner": "99"})
        assert await look(w, "f", etag=etag) is LOOKED
        await w.refresh.ensure_attributes(w.path("f").ino)
        assert w.path("f").uid == 99
        # Whichever of two comes first, one of them looks.
        etag = await upload(b"ours again")
        w.store.foreign_put(w.prefix + "f", b"ours again", OURS | {"file-owner": "98"})
        assert [await look(w, "f", etag=etag), await look(w, "f", etag=etag)] == [NOTHING, LOOKED]
        # Nor is another etag ours.
        await upload(b"once more")
        assert await look(w, "f", etag="another") is LOOKED


async def test_what_was_changed_here_is_the_uploads_conflict(w):
    w.store.foreign_put(w.prefix + "f", b"1")
    async with w.running():
        await w.list_everything()
        w.edit("f")
        w.make("new")
        before = w.path("f"), w.path("new")
        w.store.foreign_put(w.prefix + "f", b"theirs")
        w.store.foreign_put(w.prefix + "new", b"theirs")
        for key in ("f", "new", "new/below"):
            assert await look(w, key) is NOTHING
            assert w.store.requests == []
        assert (w.path("f"), w.path("new")) == before


async def test_keys_outside_of_the_share_and_keys_that_are_no_paths_are_refused(w):
    async with w.running():
        await w.list_everything()
        for key in ("./x", "..", "n" * 300, "a\0", "/x", "//"):
            assert await look(w, key) is Outcome.ODD
        if w.prefix:
            assert await w.refresh.look_again(Notice("elsewhere")) is Outcome.ODD
        assert w.store.requests == []


async def test_a_key_that_is_no_path_still_makes_the_directories_above_it(w):
    async with w.running():
        await w.list_everything()
        w.store.foreign_put(w.prefix + "a//b")
        assert await look(w, "a//b") is LOOKED
        assert w.store.requests == [("list_page", w.prefix + "a/")]
        assert w.names() == ["a/"]
        w.store.foreign_delete(w.prefix + "a//b")
        await look(w, "a//b", gone=True)
        assert w.names() == []


# ------------------------------------------------------------------ what we are doing ourselves


async def test_a_write_of_ours_under_way_is_waited_for(w):
    w.store.foreign_put(w.prefix + "f", b"1")
    async with w.running():
        await w.list_everything()
        w.edit("f")
        ino = w.path("f").ino
        attempt = Attempt(w.prefix + "f", 1, 1, 0, b"", b"")
        with w.meta.transaction() as tx:
            tx.put_upload(ino, UploadState("", "", 0, 0, 0, attempts=(attempt,)))
        assert await look(w, "f") is Outcome.BUSY
        assert w.store.requests == []
        with w.meta.transaction() as tx:
            tx.put_upload(ino, None)
            tx.put(replace(tx.require(ino), dirty_since_ns=0))
        assert await look(w, "f") is LOOKED


async def test_an_answer_older_than_a_write_of_ours_is_not_believed(w):
    w.store.foreign_put(w.prefix + "f", b"1")
    async with w.running():
        await w.list_everything()

        async def meanwhile():
            w.store.held.clear()
            await w.uploads.put(w.prefix + "f", InlineBody(b"ours"), {})

        w.store.held["head"] = meanwhile
        assert await look(w, "f") is Outcome.BUSY


async def test_a_listing_asked_before_a_look_takes_nothing_of_it_back(w):
    for name in ("a", "b"):
        w.store.foreign_put(w.prefix + name)
    async with w.running():
        await w.list_everything()

        async def meanwhile():
            w.store.held.clear()
            w.store.foreign_delete(w.prefix + "a")
            w.store.foreign_put(w.prefix + "c")
            await w.refresh.look_again(Notice(w.prefix + "a"))
            await w.refresh.look_again(Notice(w.prefix + "c"))

        w.store.held["list_page"] = meanwhile
        await w.refresh.refresh()
        assert w.names() == ["b", "c"]


async def test_what_lies_below_a_directory_that_was_renamed_here_is_left_to_its_move(w):
    w.store.foreign_put(w.prefix + "d/x")
    async with w.running():
        await w.list_everything()
        w.rename("d", "e")
        w.store.foreign_put(w.prefix + "d/new")
        assert await look(w, "d/new") is Outcome.MOVING
        w.store.foreign_put(w.prefix + "e/new")
        assert await look(w, "e/new") is Outcome.MOVING
        w.remove("e/x")
        assert await look(w, "d/x") is Outcome.MOVING
        assert w.store.requests == []


async def test_a_directory_made_here_shows_what_others_put_into_it_once_it_is_settled(w):
    async with w.running():
        await w.list_everything()
        ino = w.make("d", directory=True)
        w.store.foreign_put(w.prefix + "d/x")
        assert await look(w, "d/x") is Outcome.MOVING
        with w.meta.transaction() as tx:
            tx.put(replace(tx.require(ino), dirty_since_ns=0))
        assert await look(w, "d/x") is LOOKED
        assert w.names("d") == ["x"]


# ------------------------------------------------------------------ directories


async def test_a_key_in_a_new_directory_makes_the_first_of_them_only(w):
    async with w.running():
        await w.list_everything()
        w.store.foreign_put(w.prefix + "a/b/c")
        assert await look(w, "a/b/c") is LOOKED
        assert w.store.requests == [("head", w.prefix + "a/b/c")]
        assert (w.names(), w.names("a")) == (["a/"], [])
        assert (1, b"a", 0) in w.kernel.entries
        await w.list_everything()
        assert w.names("a/b") == ["c"]


async def test_markers_come_and_go_for_one_list_each(w):
    async with w.running():
        await w.list_everything()
        w.store.foreign_put(w.prefix + "d/", b"", OURS | {"file-permissions": "040711"})
        assert await look(w, "d/", etag="e") is LOOKED
        assert w.store.requests == [("list_page", w.prefix + "d/")]
        assert w.names() == ["d/"]
        await w.refresh.ensure_attributes(w.path("d").ino)
        assert w.path("d").mode & 0o777 == 0o711
        w.store.foreign_put(w.prefix + "d/", b"", OURS | {"file-permissions": "040700"})
        assert await look(w, "d/") is LOOKED
        await w.refresh.ensure_attributes(w.path("d").ino)
        assert w.path("d").mode & 0o777 == 0o700
        w.store.foreign_put(w.prefix + "d/x")
        await w.list_everything()
        await look(w, "d/x")
        w.store.foreign_delete(w.prefix + "d/")
        assert await look(w, "d/", gone=True) is LOOKED
        assert w.path("d").remote is None, "x keeps it"
        assert (w.path("d").ino, True) in w.kernel.inodes
        w.store.foreign_delete(w.prefix + "d/x")
        assert await look(w, "d/x", gone=True) is LOOKED
        assert w.names() == []


async def test_with_its_last_file_a_tree_without_markers_goes(w):
    w.store.foreign_put(w.prefix + "a/b/c")
    w.store.foreign_put(w.prefix + "a/kept/", b"")
    async with w.running():
        await w.list_everything()
        w.store.foreign_delete(w.prefix + "a/b/c")
        assert await look(w, "a/b/c") is LOOKED
        assert (w.names(), w.names("a")) == (["a/"], ["kept/"])
        w.store.foreign_delete(w.prefix + "a/kept/")
        await look(w, "a/kept/")
        assert w.names() == []


async def test_what_was_made_here_keeps_a_directory_that_vanished(w):
    w.store.foreign_put(w.prefix + "d/", b"")
    async with w.running():
        await w.list_everything()
        w.make("d/mine")
        w.store.foreign_delete(w.prefix + "d/")
        await look(w, "d/")
        assert w.names("d") == ["mine"]


async def test_a_file_becomes_a_directory_and_back(w):
    w.store.foreign_put(w.prefix + "a", b"file")
    async with w.running():
        await w.list_everything()
        w.store.foreign_put(w.prefix + "a/x")
        await look(w, "a/x")
        assert w.names() == ["a/"]
        assert await look(w, "a") is NOTHING, "hidden"
        await w.list_everything()
        w.store.foreign_delete(w.prefix + "a/x")
        await look(w, "a/x")
        assert w.names() == ["a"]


async def test_the_marker_of_the_share_itself_decides_its_attributes(worlds):
    w = worlds(prefix="p/")
    async with w.running():
        await w.list_everything()
        w.store.foreign_put("p/", b"", OURS)
        assert await look(w, "") is LOOKED
        await w.refresh.ensure_attributes(1)
        assert w.path("").uid == 7
        w.store.foreign_delete("p/")
        assert await look(w, "") is LOOKED
        assert w.path("").remote is None


# ------------------------------------------------------------------ trouble


async def test_a_bucket_that_does_not_answer_changes_nothing_and_is_told(w):
    w.store.foreign_put(w.prefix + "f")
    async with w.running():
        await w.list_everything()
        w.store.foreign_delete(w.prefix + "f")
        w.store.offline = True
        with pytest.raises(StoreUnreachable):
            await look(w, "f")
        assert w.path("f") is not None
        w.store.offline = False
        assert await look(w, "f") is LOOKED
        assert w.path("f") is None


async def test_one_key_is_looked_at_by_one_task_at_a_time_and_all_by_a_few(w):
    async with w.running():
        await w.list_everything()
        busy, most = 0, 0

        async def count():
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await trio.testing.wait_all_tasks_blocked()
            busy -= 1

        w.store.held["head"] = count
        async with trio.open_nursery() as nursery:
            for number in range(100):
                w.store.foreign_put(w.prefix + f"f{number}")
                nursery.start_soon(w.refresh.look_again, Notice(w.prefix + f"f{number}"))
        assert (len(w.names()), most) == (100, 8)
        most = 0
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(w.refresh.look_again, Notice(w.prefix + "f1"))
        assert most == 1


# ------------------------------------------------------------------ any history


@contextmanager
def scratch():
    """Gone at the end of an example: pytest would keep the stores of all of them."""
    with tempfile.TemporaryDirectory(prefix="gwfs-look-", dir=FAST) as name:
        yield Path(name)


CHANGES = st.tuples(st.sampled_from(["put", "put", "delete", "list", "deliver"]), KEYS | KEYS | MARKERS | ODD)


@pytest.mark.semantics("foreign-change-told")
@settings(QUIET, max_examples=150)
@given(changes=st.lists(st.tuples(CHANGES, st.binary(max_size=2)), max_size=40), seed=st.integers(0, 1000))
@example(changes=[(("put", "a/b/b"), b""), (("deliver", "a//x"), b""), (("delete", "a/b/b"), b"")], seed=0)
def test_notices_late_doubled_and_out_of_order_make_the_tree_the_bucket_without_a_refresh(changes, seed):
    async def play(directory):
        w, rng = World(directory), random.Random(seed)
        told = []

        async def deliver(count):
            rng.shuffle(told)
            for notice in [told.pop() for _ in range(min(count, len(told)))]:
                for _ in range(rng.choice([1, 1, 2])):
                    await w.refresh.look_again(notice)

        async with w.running():
            await w.list_everything()
            for (action, key), data in changes:
                if action == "put":
                    w.store.foreign_put(key, data)
                    told.append(Notice(key, etag=w.store.raw[key].etag))
                elif action == "delete":
                    if key in w.store.raw:
                        w.store.foreign_delete(key)
                        told.append(Notice(key, gone=True))
                elif action == "list":
                    await w.list_everything()
                else:
                    await deliver(rng.randrange(3))
            await deliver(1000)
            await w.list_everything()
            assert w.tree() == shown(w.store)
            before = w.tree()
            await w.refresh.refresh()
            assert w.tree() == before
        w.close()

    with scratch() as directory:
        trio.run(play, directory)


ACTIONS = ["put", "put", "delete", "notice", "notice", "list", "lookup", "head", "upload", "remove", "rename", "rename"]


class Told(Player):
    """A player whose bucket tells of every change, and whose mail is slow."""

    def __init__(self, world):
        super().__init__(world)
        self.mail = []

    async def do_put(self, key, other):
        await super().do_put(key, other)
        self.mail.append(Notice(key, etag=self.w.store.raw[key].etag))

    async def do_delete(self, key, other):
        if key in self.w.store.raw:
            await super().do_delete(key, other)
            self.mail.append(Notice(key, gone=True))

    async def do_notice(self, key, other):
        if self.mail:
            at = sum(other.encode()) % len(self.mail)
            if await self.w.refresh.look_again(self.mail[at]) not in (Outcome.BUSY, Outcome.MOVING):
                del self.mail[at]


@QUIET
@given(
    present=st.sets(KEYS, max_size=6),
    steps=st.lists(st.tuples(st.sampled_from(ACTIONS), KEYS, KEYS, st.integers(0, 9)), max_size=30),
)
def test_with_notices_among_local_changes_nothing_removed_comes_back_and_all_ends_as_the_bucket(present, steps):
    async def play(directory):
        w = World(directory)
        for key in present:
            w.store.foreign_put(key)
        player = Told(w)
        async with w.running():
            await w.refresh.ensure_listed(1)
            for step in steps:
                await player.play(*step)
            await player.settle()
        w.close()

    with scratch() as directory:
        trio.run(play, directory, clock=trio.testing.MockClock(autojump_threshold=0))
