"""What an object had besides bytes and metadata survives edits, chmod and renames; a plain one costs nothing more."""

from dataclasses import replace as replaced

import pytest

from gatewayfs.s3.options import ObjectOptions
from gatewayfs.s3.store import ObjectHeaders
from tests.component.upload.harness import replace
from tests.component.upload.test_order import changes, known
from tests.support.fakestore import EVERYTHING, FakeObjectStore

PUBLIC = {"x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}
REDIRECT = ObjectHeaders(content_type="x/y", website_redirect="/elsewhere")
OPTIONS = ObjectOptions(storage_class="ONEZONE_IA", tags=(("by", "gateway"),))

DOINGS = {
    "edit": [("put", "a"), ("drained",)],
    "chmod": [("chmod", "a"), ("drained",)],
    "rename": [("rename", "a", "b"), ("drained",)],
    "edit and rename": [("put", "a"), ("rename", "a", "b"), ("drained",)],
    "rename, edit later": [("rename", "a", "b"), ("drained",), ("put", "b"), ("drained",)],
    "rename twice, chmod": [("rename", "a", "c"), ("drained",), ("rename", "c", "b"), ("chmod", "b"), ("drained",)],
}


async def do(world, steps, data):
    for step, *names in steps:
        if step == "put":
            await world.put(names[0], data)
        elif step == "chmod":
            world.chmod(names[0], 0o600)
        elif step == "rename":
            world.rename(*names)
        else:
            await world.drained()


def only_object(world):
    ((_, stored),) = world.bucket.raw.items()
    return stored


def listed(world, key):
    """A record of the object as a listing makes it."""
    inode = known(world, key)
    stored = world.bucket.raw[key]
    with world.meta.transaction() as tx:
        tx.put(replace(inode, remote=replace(inode.remote, storage_class=stored.storage_class)))


@pytest.mark.semantics("foreign-placement-kept")
@pytest.mark.parametrize("large", [False, True], ids=["small", "in parts"])
@pytest.mark.parametrize("doing", DOINGS)
async def test_what_somebody_else_s_object_had_survives(make_world, doing, large):
    bucket = FakeObjectStore(part_bytes_min=1, capabilities=replaced(EVERYTHING, acls=True), options=OPTIONS)
    world = make_world(bucket=bucket, **({"part_bytes": 4} if large else {}))
    bucket.foreign_put(
        "a", b"old bytes", {"colour": "blue"}, REDIRECT,
        tags={"t": "1", "u": ""}, grants=PUBLIC, storage_class="GLACIER_IR",
    )  # fmt: skip
    listed(world, "a")
    new = b"new bytes, more of them"
    await do(world, DOINGS[doing], new)
    stored = only_object(world)
    assert stored.data == (new if "edit" in doing else b"old bytes")
    assert (stored.tags, stored.grants, stored.storage_class) == ({"t": "1", "u": ""}, PUBLIC, "GLACIER_IR")
    assert (stored.headers.content_type, stored.metadata["colour"]) == ("x/y", "blue")


@pytest.mark.parametrize("doing", ["chmod", "rename", "rename, edit later", "rename twice, chmod"])
async def test_a_redirect_survives(make_world, doing):
    world = make_world()
    world.bucket.foreign_put("a", b"", {}, REDIRECT)
    listed(world, "a")
    await do(world, DOINGS[doing], b"new")
    assert only_object(world).headers.website_redirect == "/elsewhere"


async def test_a_new_object_gets_what_is_configured_and_keeps_it(make_world):
    bucket = FakeObjectStore(part_bytes_min=1, options=OPTIONS)
    world = make_world(bucket=bucket)
    await world.write("a", b"1")
    await world.drained()
    await do(world, DOINGS["edit and rename"], b"22")
    stored = only_object(world)
    assert (stored.tags, stored.storage_class, stored.data) == ({"by": "gateway"}, "ONEZONE_IA", b"22")


async def test_tags_that_others_add_to_an_object_of_ours_survive_where_they_are_asked_for(make_world):
    for check_tags, expected in ((True, {"scanned": "yes"}), (False, {})):
        bucket = FakeObjectStore(part_bytes_min=1, options=ObjectOptions(check_tags=check_tags))
        world = make_world(bucket=bucket)
        await world.write("a", b"1")
        await world.drained()
        bucket.foreign_tag("a", {"scanned": "yes"})
        await world.put("a", b"22")
        await world.drained()
        assert only_object(world).tags == expected


async def test_an_object_without_tags_costs_no_further_request(make_world):
    world = make_world()
    world.bucket.foreign_put("a", b"x", {})
    listed(world, "a")
    for data in (b"1", b"22"):
        await world.put("a", data)
        await world.drained()
    assert changes(world) == [("put", "a"), ("put", "a")]
    assert world.bucket.count("head") == 1
