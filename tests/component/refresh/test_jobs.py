"""Refreshes as an operator sees them: numbered, two at a time, going on after a restart."""

from contextlib import asynccontextmanager

import pytest
import trio

from gatewayfs.errors import NoEntry, NotADirectory, StoreAccessDenied, UserError
from gatewayfs.refresh.estimate import Estimate
from gatewayfs.refresh.jobs import RECENT_MAX, Jobs


@asynccontextmanager
async def jobs_of(w):
    """The jobs of one life of the daemon; ``told`` has the ids of those whose completion was told."""
    ids = iter(f"id-{w.clock.time_ns()}" for _ in range(1000))
    jobs = Jobs(
        w.meta,
        w.clock,
        lambda: next(ids),
        w.refresh.begin,
        lambda tx, *what: jobs.told.append(what),
        trio.lowlevel.checkpoint,
    )
    jobs.told = []
    async with w.running(), trio.open_nursery() as nursery:
        await nursery.start(jobs.run)
        yield jobs
        nursery.cancel_scope.cancel()


async def ended(job):
    with trio.fail_after(30):
        await job.ended.wait()
    return job.record


async def test_a_job_has_an_id_at_once_and_its_end_is_told_and_remembered(w):
    w.store.foreign_put("a/f")
    async with jobs_of(w) as jobs:
        await w.list_everything()
        w.store.foreign_put("a/g")
        held = trio.Event()
        w.store.held["list_page"] = held.wait
        job = await jobs.start(["a", "/a/", "a/"], recursive=False)
        assert (job.record.state, job.record.folders, job.ended.is_set()) == ("running", ("/a",), False)
        assert [record.identity for record in jobs.running] == [job.record.identity]
        held.set()
        record = await ended(job)
        assert (record.state, record.progress.report().added) == ("done", 1)
        assert jobs.told == [(record.identity, record.progress.since_ns, ("/a",))]
        assert jobs.running == []
        assert [kept.identity for kept in jobs.recent()] == [record.identity]
    assert w.names("a") == ["f", "g"]


async def test_a_third_is_refused_with_the_names_of_the_two(w):
    w.store.foreign_put("a/f")
    async with jobs_of(w) as jobs:
        await w.list_everything()
        held = trio.Event()
        w.store.held["list_page"] = held.wait
        first, second = [await jobs.start(folders, recursive=True) for folders in (["/a"], ["/"])]
        with pytest.raises(
            UserError, match=f"{first.record.identity} of /a and {second.record.identity} of /"
        ) as refused:
            await jobs.start(["/"], recursive=True)
        assert "--cancel" in refused.value.cure
        held.set()
        await ended(first)
        third = await jobs.start(["/"], recursive=True)
        for job in (second, third):
            assert (await ended(job)).state == "done"


@pytest.mark.parametrize(
    ("folder", "error"),
    [
        ("/missing", NoEntry),
        ("/file", NotADirectory),
        ("/file/x", NotADirectory),
        ("/../x", UserError),
        ("./a", UserError),
    ],
)
async def test_a_folder_that_is_none_is_refused_by_name_and_nothing_begins(w, folder, error):
    w.store.foreign_put("file")
    async with jobs_of(w) as jobs:
        await w.list_everything()
        with pytest.raises(error, match=folder.split("/")[1] if folder[0] == "/" else "a"):
            await jobs.start(["/", folder], recursive=False)
        assert jobs.running == jobs.recent() == []


async def test_too_many_folders_are_refused(w):
    async with jobs_of(w) as jobs:
        with pytest.raises(UserError, match="at most 50 folders"):
            await jobs.start(["/"] * 51, recursive=True)


async def test_folders_below_another_are_done_once(w):
    for key in ("a/b/f", "ab/f"):
        w.store.foreign_put(key)
    async with jobs_of(w) as jobs:
        await w.list_everything()
        w.store.requests.clear()
        record = await ended(await jobs.start(["/a/b", "/a", "a/", "ab"], recursive=True))
    assert record.folders == ("/a", "/ab")
    assert len(w.store.requests) == len(set(w.store.requests)) == record.progress.report().requests


async def test_a_job_waits_for_the_bucket_and_goes_on_where_it_was(w, autojump_clock):
    for key in ("a/f", "b/f", "c/f"):
        w.store.foreign_put(key)
    async with jobs_of(w) as jobs:
        await w.list_everything()
        w.store.page_keys_max = 1
        w.store.held["list_page"] = cut_off_after(w, 2)
        job = await jobs.start(["/"], recursive=True)
        await trio.sleep(300)
        assert (job.record.state, job.ended.is_set()) == ("running", False)
        assert "no route to the bucket" in job.record.reason
        w.store.held.clear()
        w.store.offline = False
        assert (await ended(job)).state == "done"
    assert job.record.progress.listed == 4


def cut_off_after(w, answers):
    """The network goes with the answer number ``answers``."""
    given = 0

    async def hook():
        nonlocal given
        given += 1
        w.store.offline = given >= answers

    return hook


@pytest.mark.parametrize("streams", [True, False])
async def test_a_job_goes_on_after_a_crash_and_lists_nothing_twice(w, streams, monkeypatch):
    monkeypatch.setattr(Estimate, "streams", streams)
    w.store.page_keys_max = 4
    keys = [f"d{number}/f" for number in range(20)]
    for key in keys:
        w.store.foreign_put(key)
    monkeypatch.setattr("gatewayfs.refresh.jobs.SAVE_S", 0.0)
    async with jobs_of(w) as jobs:
        await w.list_everything()
        for key in keys:
            w.store.foreign_put(key[:-1] + "new")
        w.store.requests.clear()
        w.store.held["list_page"] = cut_off_after(w, 10)
        job = await jobs.start(["/"], recursive=True)
        while not w.store.offline:
            await trio.lowlevel.checkpoint()
        before = list(w.store.requests)
    assert not job.ended.is_set()
    w.store.offline = False
    w.store.held.clear()
    async with jobs_of(w) as jobs:
        (record,) = jobs.running
        assert (record.identity, record.folders) == (job.record.identity, ("/",))
        while jobs.running:
            await trio.sleep(0.01)
        (record,) = jobs.recent()
        assert (record.identity, record.state) == (job.record.identity, "done")
        assert jobs.told == [(record.identity, record.progress.since_ns, ("/",))]
    assert all(w.path(key[:-1] + "new") is not None for key in keys)
    again = w.store.requests[len(before) :]
    if streams:
        # 40 keys: nine pages were applied, one was lost. The root, in five pages, and the directory that was open by
        # themselves.
        assert len(again) <= 40 // 4 - 9 + 1 + 5 + 1
        assert len({prefix for _, prefix in again} - {""}) <= 1
    else:
        assert not [request for request in again if request in before[:8]], "what was done is not asked again"
    assert record.progress.listed >= 15


async def test_a_cancelled_job_ends_and_is_told_to_nobody(w):
    w.store.foreign_put("a/f")
    async with jobs_of(w) as jobs:
        await w.list_everything()
        w.store.held["list_page"] = trio.Event().wait
        job = await jobs.start(["/"], recursive=True)
        await jobs.cancel(job.record.identity)
        assert job.record.state == "cancelled"
        assert [record.state for record in jobs.recent()] == ["cancelled"]
        assert jobs.told == jobs.running == []
        with pytest.raises(UserError, match="no refresh id-nothing is running"):
            await jobs.cancel("id-nothing")


async def test_a_folder_that_may_not_be_listed_is_in_the_report(w):
    w.store.foreign_put("a/f")
    async with jobs_of(w) as jobs:
        await w.list_everything()
        w.store.failures = [StoreAccessDenied("access denied", operation="list_page", key="a/")]
        record = await ended(await jobs.start(["/a"], recursive=True))
    assert record.state == "done"
    assert ["/a/: " in line and "denied" in line for line in record.progress.errors] == [True]


async def test_a_bug_costs_the_job_only(w, monkeypatch, caplog):
    async with jobs_of(w) as jobs:
        await w.list_everything()
        monkeypatch.setattr("gatewayfs.refresh.renewal.Renewal.run", lambda *_, **__: 1 / 0)
        record = await ended(await jobs.start(["/"], recursive=True))
    assert record.state == "failed"
    assert "ZeroDivisionError" in record.reason
    assert "Traceback" in caplog.text


async def test_only_so_many_ended_jobs_are_remembered(w):
    async with jobs_of(w) as jobs:
        made = [(await ended(await jobs.start(["/"], recursive=False))).identity for _ in range(RECENT_MAX + 3)]
        assert [record.identity for record in jobs.recent()] == made[:2:-1]
