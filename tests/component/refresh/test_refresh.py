"""refresh-cache: what others changed appears, what was changed here stays, and nothing deleted or moved comes back."""

import pytest
import trio

from gatewayfs.errors import NoEntry, NotADirectory, StaleInode, StoreAccessDenied, Unavailable
from gatewayfs.meta.schema import Attempt, Remote, UploadState
from gatewayfs.refresh import motion
from gatewayfs.refresh.estimate import Estimate
from gatewayfs.s3.store import InlineBody
from tests.component.refresh.harness import DEFAULTS, OURS, replace, shown


@pytest.mark.parametrize("streams", [True, False])
async def test_an_unchanged_bucket_costs_few_lists_and_writes_nothing(w, streams, monkeypatch):
    monkeypatch.setattr(Estimate, "streams", streams)
    for number in range(30):
        w.store.foreign_put(f"d{number % 3}/f{number}")
    async with w.running():
        await w.list_everything()
        before = {ino: w.meta.require(ino) for ino in range(2, 35)}
        w.store.requests.clear()
        w.kernel.forget()
        report = await w.refresh.refresh()
    prefixes = [""] if streams else ["", "d0/", "d1/", "d2/"]
    assert sorted(w.store.requests) == [("list_page", prefix) for prefix in prefixes]
    assert (report.listed, report.names, report.requests) == (4, 33, len(prefixes))
    assert (report.added, report.changed, report.removed, report.kept_dirty) == (0, 0, 0, 0)
    assert w.kernel.inodes == w.kernel.entries == []
    changed = [ino for ino, inode in before.items() if w.meta.inode(ino) != inode]
    assert [w.meta.require(ino).name for ino in changed] == [b"d0", b"d1", b"d2"], "only when they were listed"


async def test_additions_removals_and_replacements_appear_and_the_kernel_hears(w):
    for key in ("d/keep", "d/replace", "d/remove", "d/touch"):
        w.store.foreign_put(key, b"1", OURS)
    async with w.running():
        await w.list_everything()
        inos = {name: w.path(f"d/{name}").ino for name in ("keep", "replace", "remove", "touch")}
        for ino in inos.values():
            await w.refresh.ensure_attributes(ino)
        directory = w.path("d")
        w.store.foreign_put("d/replace", b"2", OURS)
        w.store.foreign_put("d/touch", b"1", OURS | {"file-owner": "99"})
        w.store.foreign_put("d/add", b"3")
        w.store.foreign_delete("d/remove")
        w.kernel.forget()
        w.store.requests.clear()
        report = await w.refresh.refresh(["/d"], True)
        assert w.store.requests == [("list_page", "d/")]
        assert (report.added, report.changed, report.removed) == (1, 2, 1)
        assert w.names("d") == ["add", "keep", "replace", "touch"]
        assert w.cache.rebased == [inos["replace"]], "the bytes of a touched object are still its bytes"
        assert (inos["replace"], False) in w.kernel.inodes
        assert (inos["touch"], True) in w.kernel.inodes
        assert (directory.ino, b"add", 0) in w.kernel.entries
        assert (directory.ino, b"remove", inos["remove"]) in w.kernel.entries
        assert (directory.ino, False) in w.kernel.inodes, "its cached entries"
        assert w.path("d").mtime_ns > directory.mtime_ns
        assert not w.path("d").dirty_since_ns
        await w.refresh.ensure_attributes(inos["touch"])
    assert w.path("d/touch").uid == 99
    assert w.path("d/keep").attributes_known
    assert {key for name, key in w.store.requests if name == "head"} <= {"d/touch", "d/add", "d/replace"}


async def test_same_size_and_time_but_another_etag_is_a_replacement(w):
    w.store.foreign_put("file", b"aaa", last_modified_ns=10**18)
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.store.foreign_put("file", b"bbb", last_modified_ns=10**18)
        report = await w.refresh.refresh()
    assert report.changed == 1
    assert w.cache.rebased == [w.path("file").ino]


async def test_the_time_of_our_own_put_is_learnt_not_taken_for_a_change(w):
    w.store.foreign_put("file", b"1")
    async with w.running():
        await w.refresh.ensure_listed(1)
        inode = w.path("file")
        await w.refresh.ensure_attributes(inode.ino)
        sent = await w.uploads.put("file", InlineBody(b"ours"), {})
        with w.meta.transaction() as tx:
            ours = replace(inode.remote, etag=sent.etag, size=4, last_modified_ns=0)
            tx.put(replace(tx.require(inode.ino), remote=ours, size=4))
        report = await w.refresh.refresh()
        assert report.changed == 0
        assert w.path("file").remote.last_modified_ns == w.store.raw["file"].last_modified_ns
        assert w.path("file").attributes_known
        w.store.foreign_put("file", b"ours", OURS)
        report = await w.refresh.refresh()
        assert report.changed == 1
    assert w.cache.rebased == []


async def test_unlisted_directories_are_left_alone(w):
    w.store.foreign_put("listed/x")
    w.store.foreign_put("unlisted/x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        await w.refresh.ensure_listed(w.path("listed").ino)
        w.store.requests.clear()
        report = await w.refresh.refresh()
        assert w.store.requests == [("list_page", ""), ("list_page", "listed/")]
        assert report.listed == 2
        report = await w.refresh.refresh(["/unlisted"], True)
    assert report.listed == 0


async def test_without_recursion_only_the_folder_itself_is_listed(w):
    w.store.foreign_put("a/b/x")
    async with w.running():
        await w.list_everything()
        w.store.foreign_put("a/b/y")
        w.store.foreign_put("a/y")
        report = await w.refresh.refresh(["a"], False)
    assert (report.listed, report.added) == (1, 1)
    assert w.path("a/y") is not None
    assert w.path("a/b/y") is None


async def test_a_folder_that_is_new_in_the_bucket_is_found_and_a_missing_one_refused(w):
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.store.foreign_put("new/sub/x")
        w.store.foreign_put("file")
        await w.refresh.refresh(["/new/sub"], True)
        assert w.path("new/sub").is_directory
        with pytest.raises(NoEntry, match="/gone"):
            await w.refresh.refresh(["/gone"], True)
        with pytest.raises(NotADirectory):
            await w.refresh.refresh(["/file"], True)


async def test_marker_changes_are_seen(w):
    w.store.foreign_put("d/", b"", OURS)
    w.store.foreign_put("d/x")
    w.store.foreign_put("unlisted/", b"", OURS)
    async with w.running():
        await w.refresh.ensure_listed(1)
        await w.refresh.ensure_listed(w.path("d").ino)
        for name in ("d", "unlisted"):
            await w.refresh.ensure_attributes(w.path(name).ino)
        for key in ("d/", "unlisted/"):
            w.store.foreign_put(key, b"", OURS | {"file-owner": "70"})
        await w.refresh.refresh()
        for name in ("d", "unlisted"):
            await w.refresh.ensure_attributes(w.path(name).ino)
            assert w.path(name).uid == 70
        w.store.foreign_delete("d/")
        await w.refresh.refresh()
    assert w.path("d").remote is None
    assert not w.path("d").directory.marker_wanted
    assert not w.path("d").dirty_since_ns


@pytest.mark.semantics("directory-times")
@pytest.mark.parametrize("recursive", [False, True])
async def test_a_directory_keeps_the_time_of_its_last_entry_until_somebody_sets_its_marker_s(w, recursive):
    w.store.foreign_put("d/", b"", OURS)
    w.store.foreign_put("d/x")

    async def times():
        await w.refresh.refresh(["/"], recursive=recursive)
        await w.refresh.ensure_attributes(w.path("d").ino)
        return w.path("d").mtime_ns, w.path("d").uid

    async with w.running():
        await w.refresh.ensure_listed(1)
        await w.refresh.ensure_listed(w.path("d").ino)
        assert await times() == (5000, 7)
        with w.meta.transaction() as tx:
            tx.put(replace(w.path("d"), mtime_ns=9_000, ctime_ns=9_000))
        assert await times() == (9000, 7)
        w.store.foreign_put("d/", b"", OURS | {"file-owner": "70"})
        assert await times() == (9000, 70)
        w.store.foreign_put("d/", b"", OURS | {"file-mtime": "6000ns"})
        assert await times() == (6000, 7)
        w.store.foreign_put("d/", b"", {})
        assert await times() == (w.store.raw["d/"].last_modified_ns, DEFAULTS.uid)


async def test_a_vanished_tree_goes_as_a_whole(w):
    for number in range(500):
        w.store.foreign_put(f"d/e{number % 7}/f{number}")
    w.store.foreign_put("d/marked/", b"", OURS)
    w.store.foreign_put("other")
    async with w.running():
        await w.list_everything()
        ino = w.path("d").ino
        for key in list(w.store.raw):
            if key.startswith("d/"):
                w.store.foreign_delete(key)
        report = await w.refresh.refresh()
    assert w.names() == ["other"]
    assert report.removed == 500 + 7 + 1 + 1
    assert w.meta.inode_count == 2
    assert (1, b"d", ino) in w.kernel.entries


async def test_dirty_files_keep_their_directory_when_the_rest_vanishes(w):
    for key in ("d/", "d/clean", "d/edited", "d/sub/x", "outside", "outside-dir/x"):
        w.store.foreign_put(key)
    async with w.running():
        await w.list_everything()
        w.edit("d/edited")
        w.make("d/sub/new")
        w.rename("outside", "d/moved-in")
        w.rename("outside-dir", "d/dir-moved-in")
        for key in list(w.store.raw):
            if key.startswith("d/"):
                w.store.foreign_delete(key)
        report = await w.refresh.refresh()
    assert w.tree().keys() == {
        "d/",
        "d/edited",
        "d/sub/",
        "d/sub/new",
        "d/moved-in",
        "d/dir-moved-in/",
        "d/dir-moved-in/x",
    }
    assert report.kept_dirty == 1
    assert w.path("d").remote is None
    assert not w.path("d").dirty_since_ns


async def test_dirty_files_are_not_touched_by_foreign_changes(w):
    for key in ("edited", "edited-too", "gone"):
        w.store.foreign_put(key, b"1")
    async with w.running():
        await w.refresh.ensure_listed(1)
        for name in ("edited", "edited-too", "gone"):
            w.edit(name)
        w.make("made")
        before = {name: w.path(name) for name in ("edited", "edited-too", "gone", "made")}
        w.store.foreign_put("edited", b"other")
        w.store.foreign_put("edited-too/below", b"a directory now")
        w.store.foreign_delete("edited-too")
        w.store.foreign_delete("gone")
        w.store.foreign_put("made", b"at the same time")
        report = await w.refresh.refresh()
    assert {name: w.path(name) for name in before} == before
    assert report.kept_dirty == 4
    assert report.shadowed == 1
    assert w.cache.rebased == w.cache.forgotten == []


async def test_an_open_file_that_others_removed_is_unlinked_and_lives_on(w):
    w.store.foreign_put("file", b"data")
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("file").ino
        w.cache.opens[ino] = 1
        w.store.foreign_delete("file")
        await w.refresh.refresh()
    assert w.path("file") is None
    assert w.meta.require(ino).size == 4
    assert w.cache.forgotten == []


async def test_files_and_directories_swap_both_ways(w):
    w.store.foreign_put("f")
    w.store.foreign_put("d/x")
    async with w.running():
        await w.list_everything()
        w.store.foreign_delete("f")
        w.store.foreign_put("f/x")
        w.store.foreign_delete("d/x")
        w.store.foreign_put("d")
        await w.refresh.refresh()
        await w.list_everything()
        assert w.tree() == shown(w.store)
        w.store.foreign_delete("f/x")
        w.store.foreign_put("f")
        w.store.foreign_delete("d")
        w.store.foreign_put("d/x")
        await w.refresh.refresh()
        await w.list_everything()
    assert w.tree() == shown(w.store)
    assert w.refresh.statistics().shadowed == 0


async def test_oddities_are_counted_once_however_often_they_are_seen(w):
    w.store.foreign_put("//x")
    w.store.foreign_put("both")
    w.store.foreign_put("both/x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        for _ in range(3):
            report = await w.refresh.refresh()
    assert (report.unrepresentable, report.shadowed) == (1, 1)
    assert (w.refresh.statistics().unrepresentable, w.refresh.statistics().shadowed) == (1, 1)


async def test_a_folder_that_may_not_be_listed_does_not_stop_the_others(w):
    for key in ("a/x", "b/x"):
        w.store.foreign_put(key)
    async with w.running():
        await w.list_everything()
        w.store.foreign_put("b/y")
        original = w.store.list_page

        async def list_page(prefix, **arguments):
            if prefix == "a/" or not arguments["delimiter"]:
                raise StoreAccessDenied("AccessDenied: ListObjectsV2")
            return await original(prefix, **arguments)

        w.store.list_page = list_page
        report = await w.refresh.refresh()
    assert report.errors == ("/a/: AccessDenied: ListObjectsV2",)
    assert w.path("b/y") is not None
    assert w.path("a/x") is not None


@pytest.mark.parametrize("held_at", ["", "a"])
async def test_a_refresh_of_what_is_being_listed_lists_again_afterwards(w, held_at):
    """The listing under way may have passed what changed just before the refresh was asked for."""
    w.store.foreign_put("a")
    w.store.foreign_put("z")
    w.store.page_keys_max = 1
    second = trio.Event()
    original = w.store.list_page

    async def list_page(prefix, *, token="", **arguments):
        page = await original(prefix, token=token, **arguments)
        if token == held_at and not second.is_set():
            w.store.foreign_put("0new")
            await second.wait()
        return page

    w.store.list_page = list_page
    async with w.running(), trio.open_nursery() as nursery:
        nursery.start_soon(w.refresh.ensure_listed, 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(w.refresh.refresh, ["/"])
        await trio.testing.wait_all_tasks_blocked()
        second.set()
    assert w.names() == ["0new", "a", "z"]


# ---------------------------------------------------------------------- nothing comes back


async def test_doomed_objects_are_not_shown_again(w):
    for key in ("file", "d/x", "d/sub/y", "kept"):
        w.store.foreign_put(key)
    async with w.running():
        await w.list_everything()
        w.remove("file")
        w.remove("d")
        report = await w.refresh.refresh()
        assert w.names() == ["kept"]
        assert report.added == 0
        w.store.foreign_put("d/theirs")
        await w.refresh.refresh()
        await w.list_everything()
    assert w.tree().keys() == {"kept", "d/", "d/theirs"}


async def test_moved_objects_are_not_shown_again_at_their_old_place(w):
    for key in ("file", "d/x", "d/sub/y"):
        w.store.foreign_put(key)
    async with w.running():
        await w.list_everything()
        w.rename("file", "file2")
        w.rename("d", "d2")
        report = await w.refresh.refresh()
        assert report.added == 0
        assert w.tree().keys() == {"file2", "d2/", "d2/x", "d2/sub/", "d2/sub/y"}
        # The uploader visited d2's children; all are held one by one now, and d2 is listed from its new place.
        for path in ("d2", "d2/sub"):
            inode = w.path(path)
            settled = replace(inode.directory, children_unsettled=False, source=w.meta.key_of(inode))
            with w.meta.transaction() as tx:
                tx.put(replace(inode, dirty_since_ns=0, directory=settled))
        for path in ("d2/x", "d2/sub/y"):
            with w.meta.transaction() as tx:
                tx.put(replace(w.path(path), dirty_since_ns=w.clock.time_ns()))
        report = await w.refresh.refresh()
        assert (report.added, report.removed) == (0, 0)
        assert w.tree().keys() == {"file2", "d2/", "d2/x", "d2/sub/", "d2/sub/y"}
        # What others put at the old place shows once the claim on it is found to be over.
        w.store.foreign_put("d/theirs")
        await trio.testing.wait_all_tasks_blocked()
        await w.refresh.refresh()
    assert "d" in {name.rstrip("/") for name in w.names()}


async def test_an_unlisted_directory_keeps_its_old_prefix_while_it_moves(worlds, tmp_path):
    w = worlds()
    w.store.foreign_put("d/x")
    w.store.foreign_put("d/sub/y")
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.rename("d", "d2")
        await w.refresh.refresh()
        assert w.names() == ["d2/"]
        assert w.store.count("list_page", "d/") == 0, "the whole prefix is claimed: nothing to verify"
        await w.refresh.ensure_name(1, b"d")
        assert w.path("d") is None
        # Listed on the way: what is below must move, too.
        await w.refresh.ensure_listed(w.path("d2").ino)
        assert w.names("d2") == ["sub/", "x"]
    moved = [w.path("d2/x"), w.path("d2/sub")]
    assert all(inode.dirty_since_ns for inode in moved)
    assert {inode.ino for inode in moved} == set(w.noticed)
    assert w.path("d2/sub").directory.children_unsettled
    assert w.path("d2/x").remote.key == "d/x"


async def test_a_directory_taken_out_of_another_is_listed_while_both_move(w):
    w.store.foreign_put("x/sub/deep/f")
    w.store.foreign_put("x/f")
    async with w.running():
        await w.refresh.ensure_listed(1)
        await w.refresh.ensure_listed(w.path("x").ino)
        w.rename("x/sub", "z")
        w.rename("x", "y")
        await w.refresh.ensure_listed(w.path("z").ino)
        await w.refresh.ensure_listed(w.path("z/deep").ino)
        await w.refresh.refresh()
    assert w.tree().keys() == {"y/", "y/f", "z/", "z/deep/", "z/deep/f"}


async def test_an_object_we_may_have_written_ourselves_is_not_taken_for_somebody_else_s(w):
    """renamed to "b", copied there, the answer lost, renamed on to "c": the object at "b" is ours."""
    w.store.foreign_put("a", b"1")
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.rename("a", "b")
        inode = w.path("b")
        attempt = Attempt("b", 1, 0, 0, b"", b"")
        with w.meta.transaction() as tx:
            tx.put_upload(inode.ino, UploadState("", "", 0, 0, 0, attempts=(attempt,)))
        await w.store.copy("a", "b", source_etag=None)
        w.rename("b", "c")
        await w.refresh.refresh()
    assert w.names() == ["c"]


@pytest.mark.parametrize("folder", ["/..", "/../up", "/.", "/" + "n" * 256, "/\ud800", "/nul\0"])
async def test_a_folder_no_path_can_name_is_refused(w, folder):
    w.store.foreign_put("../up/x")
    w.store.foreign_put("./x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        with pytest.raises(NoEntry):
            await w.refresh.refresh([folder], True)
    assert w.names() == []


async def test_when_the_share_stops_a_refresh_ends_with_a_reason(w):
    w.store.foreign_put("d/x")
    async with w.running():
        await w.list_everything()
    with pytest.raises(Unavailable):
        await w.refresh.refresh()
    with pytest.raises(Unavailable):
        await w.refresh.refresh(["/new"], True)


async def test_busy_days_cost_requests_not_truth(w, monkeypatch):
    """With more in motion than is searched, every unknown directory is verified."""
    monkeypatch.setattr(motion, "SCAN_MAX", 2)
    for number in range(3):
        w.store.foreign_put(f"gone{number}/x")
        w.store.foreign_put(f"kept{number}/x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        for number in range(3):
            await w.refresh.ensure_listed(w.path(f"gone{number}").ino)
            w.remove(f"gone{number}")
        w.store.foreign_put("new/x")
        w.store.requests.clear()
        await w.refresh.refresh()
    assert w.names() == ["kept0/", "kept1/", "kept2/", "new/"]
    assert sorted(key for _, key in w.store.requests) == ["", "gone0/", "gone1/", "gone2/", "new/"]


async def test_the_claims_of_moving_directories_survive_a_restart(w):
    w.store.foreign_put("d/x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.rename("d", "d2")
    w.refresh._motion.claims._claims.clear()
    async with w.running():
        await w.refresh.refresh()
    assert w.names() == ["d2/"]


async def test_claims_that_are_over_are_forgotten(w, monkeypatch):
    monkeypatch.setattr(motion, "TIDY_MIN", 3)
    claims = motion.Claims(w.meta)
    for name in ("a", "b", "c"):
        w.store.foreign_put(f"{name}/x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        for name in ("a", "b", "c"):
            w.rename(name, name + "2")
            claims.note(w.path(name + "2").ino)
            if name == "a":
                moved = w.path("a2")
                with w.meta.transaction() as tx:
                    tx.put(replace(moved, directory=replace(moved.directory, children_unsettled=False)))
    assert claims.claimant(w.meta, "b/x", 1) == w.path("b2").ino
    assert repr(claims) == f"<Claims {{'b/': {w.path('b2').ino}, 'c/': {w.path('c2').ino}}}>"


async def test_a_new_directory_at_the_old_place_does_not_take_what_is_moving_away(w):
    w.store.foreign_put("d/x")
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.rename("d", "d2")
        ino = w.make("d", directory=True, dirty=False)
        await w.refresh.refresh(["/d"], True)
        assert w.names("d") == []
        await w.refresh.ensure_listed(w.path("d2").ino)
    assert w.names("d2") == ["x"]
    assert w.meta.require(ino).directory.complete


@pytest.mark.parametrize("page", [1, 1000])
async def test_a_listing_older_than_our_own_delete_does_not_bring_it_back(w, page):
    """LIST was answered, then our DELETEs finished and were recorded, then LIST's answer arrived."""
    for key in ("file", "d/x", "kept"):
        w.store.foreign_put(key)
    w.store.page_keys_max = page
    async with w.running():
        await w.list_everything()

        async def meanwhile():
            w.store.held.clear()
            w.remove("file")
            w.remove("d")
            await w.delete_doomed()

        w.store.held["list_page"] = meanwhile
        report = await w.refresh.refresh(["/"], False)
        assert report.added == 0
    assert w.names() == ["kept"]


async def test_a_listing_older_than_our_own_upload_neither_removes_nor_rolls_back(w):
    w.store.foreign_put("changed", b"1")
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.make("made")
        w.edit("changed")

        async def meanwhile():
            w.store.held.clear()
            for name in ("made", "changed"):
                sent = await w.uploads.put(name, InlineBody(b"local"), {})
                inode = w.path(name)
                old = w.meta.require(inode.ino).remote
                remote = Remote(name, sent.etag, 5, 0, inode.content_revision, inode.meta_revision)
                assert old is None or old.etag != remote.etag
                with w.meta.transaction() as tx:
                    tx.put(replace(inode, remote=remote, dirty_since_ns=0, size=5))

        w.store.held["list_page"] = meanwhile
        report = await w.refresh.refresh()
    assert (report.changed, report.removed) == (0, 0)
    assert w.names() == ["changed", "made"]
    assert w.path("changed").remote.etag == w.store.raw["changed"].etag
    assert w.cache.rebased == []


async def test_a_directory_renamed_while_it_is_listed_gets_all_its_children(w):
    for number in range(6):
        w.store.foreign_put(f"d/f{number}")
    w.store.page_keys_max = 2
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("d").ino
        w.store.held["list_page"] = _once(lambda: w.rename("d", "d2"))
        await w.refresh.ensure_listed(ino)
    assert w.names("d2") == [f"f{number}" for number in range(6)]
    assert len(w.noticed) == 6


async def test_a_directory_removed_while_it_is_listed_is_gone(w):
    w.store.foreign_put("d/f")
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("d").ino
        w.store.held["list_page"] = _once(lambda: w.remove("d"))
        with pytest.raises(StaleInode):
            await w.refresh.ensure_listed(ino)
    assert w.names() == []


async def test_a_directory_that_finished_moving_while_it_is_listed_is_listed_from_its_new_place(w):
    w.store.foreign_put("d/f")
    async with w.running():
        await w.refresh.ensure_listed(1)
        ino = w.path("d").ino

        def move():
            w.rename("d", "d2")
            inode = w.path("d2")
            settled = replace(inode.directory, children_unsettled=False, source="d2/")
            with w.meta.transaction() as tx:
                tx.put(replace(inode, dirty_since_ns=0, directory=settled))
            w.store.foreign_delete("d/f")
            w.store.foreign_put("d2/f")

        w.store.held["list_page"] = _once(move)
        await w.refresh.ensure_listed(ino)
    assert w.path("d2/f").remote.key == "d2/f"
    assert not w.path("d2/f").dirty_since_ns


def _once(change):
    calls = []

    async def hook():
        if not calls:
            calls.append(1)
            change()

    return hook


async def test_a_made_directory_is_listed_from_its_place_once_it_has_settled(w):
    w.make("d", directory=True)
    async with w.running():
        await w.refresh.ensure_listed(1)
        w.store.foreign_put("d/theirs")
        await w.refresh.refresh()
        assert w.names("d") == []
        with w.meta.transaction() as tx:
            tx.put(replace(w.path("d"), dirty_since_ns=0))
        await w.refresh.refresh()
    assert w.names("d") == ["theirs"]
