"""Each trouble is told once, now and then again while it lasts, and once more when it is over."""

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from gatewayfs.daemon.health import REPEAT_S, HealthLog
from gatewayfs.daemon.healthtypes import TYPES
from gatewayfs.daemon.problems import Problem
from gatewayfs.errors import CredentialsRejected, ObjectArchived, ObjectDamaged, ObjectNotFound, StoreAccessDenied
from gatewayfs.runtime.clock import ManualClock
from gatewayfs.s3.refusals import Refusal, RefusalStore
from gatewayfs.types import ObjectKey
from tests.support.fakestore import FakeObjectStore
from tests.support.faultystore import FaultyStore

LOW = Problem("CacheDiskLow", "the cache disk has only 3 MiB left; free space on it")


class Lines(list[bytes]):
    def said(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self]
        self.clear()
        return found


def health(lines: Lines) -> HealthLog:
    return HealthLog("photos", "bucket-1", "host", ManualClock(), lines.append)


async def test_a_problem_is_told_when_it_comes_seldom_while_it_lasts_and_when_it_is_over(
    autojump_clock: MockClock,
) -> None:
    lines = Lines()
    log = health(lines)
    for _ in range(10):
        log.seen([LOW])
    (line,) = lines.said()
    assert line["type"] == "CacheDiskLow"
    assert line["source"] == "photos"
    assert line["bucket"] == "bucket-1"
    assert line["gateway"] == "host"
    assert line["message"] == LOW.text
    assert line["state"] == "on"
    assert line["cure"] == TYPES["CacheDiskLow"].cure
    assert line["timestamp"].isdigit()
    await trio.sleep(REPEAT_S + 1)
    log.seen([LOW])
    assert [line["repeated"] for line in lines.said()] == [9]
    log.seen([])
    log.seen([])
    (line,) = lines.said()
    assert (line["state"], line["severity"]) == ("over", "INFO")
    log.seen([LOW])
    assert [line["state"] for line in lines.said()] == ["on"]


async def test_refusals_of_one_kind_are_one_line_and_objects_each_their_own(autojump_clock: MockClock) -> None:
    lines = Lines()
    log = health(lines)
    for number in range(100):
        key = f"k{number % 2}"
        log.refused(Refusal(StoreAccessDenied("denied"), "S3GetObject", key))
        log.refused(Refusal(StoreAccessDenied("denied"), "S3PutObject", key))
        log.refused(Refusal(ObjectArchived("archived"), "S3GetObject", key))
        log.refused(Refusal(ObjectNotFound("gone"), "S3GetObject", key))
        log.refused(Refusal(CredentialsRejected("expired"), "S3HeadObject", key))
    assert sorted((line["type"], line["operation"], line["key"]) for line in lines.said()) == [
        ("CredentialsRejected", "S3HeadObject", "k0"),
        ("InaccessibleStorageClass", "S3GetObject", "k0"),
        ("InaccessibleStorageClass", "S3GetObject", "k1"),
        ("ObjectMissing", "S3GetObject", "k0"),
        ("ObjectMissing", "S3GetObject", "k1"),
        ("S3AccessDenied", "S3GetObject", "k0"),
        ("S3AccessDenied", "S3PutObject", "k0"),
    ]


async def test_how_the_last_gateway_ended_is_told(autojump_clock: MockClock) -> None:
    lines = Lines()
    log = health(lines)
    log.started(first=True, clean=False)
    log.started(first=False, clean=True)
    log.started(first=False, clean=False)
    assert [line["type"] for line in lines.said()] == ["Reboot", "HardReboot"]


async def test_a_missing_object_is_told_to_readers_only(autojump_clock: MockClock) -> None:
    heard: list[Refusal] = []
    store = RefusalStore(FakeObjectStore(ManualClock()), heard.append)
    for call in (store.head(ObjectKey("a")), store.get(ObjectKey("a"), 0, 1)):
        try:
            await call
        except ObjectNotFound:
            continue
    assert [(refusal.operation, refusal.key) for refusal in heard] == [("S3GetObject", "a")]


async def test_an_object_that_comes_damaged_is_told_once_by_its_key(autojump_clock: MockClock) -> None:
    lines, inner = Lines(), FaultyStore(FakeObjectStore(ManualClock()))
    store = RefusalStore(inner, health(lines).refused)
    inner.fail("get", ObjectDamaged("the object's bytes do not match its checksum"), times=4)
    for _ in range(4):
        with pytest.raises(ObjectDamaged):
            await store.get(ObjectKey("a"), 0, 1)
    (line,) = lines.said()
    assert (line["type"], line["key"], line["operation"]) == ("ObjectDamaged", "a", "S3GetObject")


async def test_each_conflict_is_told_once_with_its_object_and_the_cure(autojump_clock: MockClock) -> None:
    lines = Lines()
    log = health(lines)
    log.happened({"event": "conflict", "key": "a/b", "what": "bucket-wins", "other": "a/b.conflict-host-1"})
    log.happened({"event": "cycle", "key": "c", "what": "aside"})
    found = [Problem("InvalidObjectState", "1 conflicts", key="a/b")]
    log.seen(found)  # what ``status`` counts was told when it happened
    log.seen([])
    (line,) = lines.said()
    assert (line["type"], line["key"], line["state"]) == ("InvalidObjectState", "a/b", "on")
    assert "a/b.conflict-host-1" in line["message"]
    assert "compare them, keep one" in line["cure"]
