"""The queue's calls as they come over the socket: paths, pages, mistakes."""

import json
from types import SimpleNamespace

import pytest
import trio

from gatewayfs.daemon.queueing import Queueing
from gatewayfs.errors import NoEntry, Unavailable, UserError
from tests.component.upload.harness import World, memory_directory


class Share:
    def __init__(self, directory):
        self.world = World(directory, prefix="p/", settle_s=1000.0, settle_max_s=1000.0)
        self.away = False
        names = SimpleNamespace(lookup=self._lookup)
        self.queueing = Queueing(self.world.uploader.operator, names, self.world.meta, self._written)

    async def _written(self):
        await trio.lowlevel.checkpoint()

    async def _lookup(self, parent, name):
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("the bucket does not answer")
        found = self.world.meta.lookup(parent, name)
        if found is None:
            raise NoEntry(name.decode())
        return found

    async def call(self, call, **args):
        return json.loads(json.dumps(await self.queueing.handlers()[call](args, lambda frame: None)))


@pytest.fixture
def share():
    with memory_directory() as directory:
        made = Share(directory)
        yield made
        made.world.close()


async def test_pages_go_on_where_the_last_one_ended(share, autojump_clock):
    for number in range(5):
        await share.world.write(f"f{number}", b"x")
        await trio.sleep(1)
    seen, after = [], None
    for _ in range(3):
        page = await share.call("queue", limit=2, after=after)
        seen += [entry["path"] for entry in page["entries"]]
        after = page["after"]
    assert after is None
    assert seen == [f"f{number}" for number in range(5)]
    assert {entry["state"] for entry in page["entries"]} == {"settling"}
    assert (await share.call("queue", path="f3"))["entries"][0]["path"] == "f3"


async def test_hold_and_release(share, autojump_clock):
    share.world.mkdir("d")
    await share.world.write("d/a", b"x")
    assert [hold["path"] for hold in (await share.call("queue-hold", paths=["d/"]))["holds"]] == ["d"]
    assert {entry["state"] for entry in (await share.call("queue"))["entries"]} == {"held"}
    with pytest.raises(UserError, match="d/a: is not held by itself") as caught:
        await share.call("queue-release", paths=["d/a"])
    assert caught.value.cure == "held: d"
    share.world.unlink("d/a")
    share.world.unlink("d")
    assert await share.call("queue-release", paths=["d"]) == {"holds": []}, "though it is gone"
    assert await share.call("queue-release") == {"holds": []}


async def test_what_was_deleted_can_still_be_named_until_its_object_is_gone(share, autojump_clock):
    await share.world.write("a", b"x")
    await share.world.drained()
    share.world.unlink("a")
    assert await share.call("queue-now", paths=["a"]) == {"entries": 1}
    with pytest.raises(UserError, match="not there any more"):
        await share.call("queue-hold", paths=["a"])


@pytest.mark.parametrize("call", ["queue-hold", "queue-retry", "queue-now", "queue"])
async def test_a_path_that_is_not_there_is_told(share, call, autojump_clock):
    given = {"path": "no/such"} if call == "queue" else {"paths": ["no/such"]}
    with pytest.raises(UserError, match="no/such: no such file or directory in this share"):
        await share.call(call, **given)
    share.away = True
    with pytest.raises(UserError, match="the bucket does not answer"):
        await share.call(call, **given)


@pytest.mark.parametrize(
    "args", [{"paths": "a"}, {"paths": [1]}, {"paths": ["x"] * 101}, {"after": "x"}, {"after": [1]}, {"limit": "all"}]
)
async def test_senseless_arguments_are_refused(share, args, autojump_clock):
    with pytest.raises(UserError):
        await share.call("queue-retry" if "paths" in args else "queue", **args)
