"""The capability probe: right about each server, and without a trace."""

import pytest

from gatewayfs.s3.capabilities import ProbedStore, probe
from gatewayfs.s3.store import Capabilities
from tests.contract.conftest import Foreigner

EXPECTED = {
    "fake": Capabilities(copy_if_match=True, delete_if_match=True, delete_many_if_match=True, probed=True),
    "moto": Capabilities(
        complete_if_match=False,
        copy_source_if_match=False,
        part_copy_source_if_match=False,
        delete_if_match=True,
        acls=True,
        probed=True,
    ),
    "server": Capabilities(
        part_copy_source_if_match=False,
        delete_if_match=True,
        delete_many_if_match=True,
        replace_keeps_tags=False,
        acls=True,
        probed=True,
    ),
}


async def test_the_probe_finds_what_the_server_honours(request: pytest.FixtureRequest, store: ProbedStore) -> None:
    found = await probe(store, "share/", "abc")
    assert found == EXPECTED[request.node.callspec.params["party"]]
    assert store.capabilities == found


async def test_the_probe_leaves_nothing_behind(store: ProbedStore) -> None:
    await probe(store, "share/", "abc")
    assert not (await store.list_page("", delimiter=False)).objects
    assert not await store.list_uploads("")


async def test_the_probe_leaves_no_version_behind(store: ProbedStore, foreigner: Foreigner) -> None:
    foreigner.enable_versioning()
    assert (await probe(store, "", "abc")).versioning
    for key in (".gatewayfs-probe-abc", ".gatewayfs-probe-abc-copy"):
        assert foreigner.versions(key) == 0
