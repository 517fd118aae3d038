"""An environment that an older program wrote opens in this one, with everything in it.

``environments/schema-N.tar.xz`` is a cache directory as a program of that schema left it when it was killed: some of it
in LMDB, some in the journal only. When the schema moves on, the last directory of the old one is added here, and
``migrate.MIGRATIONS`` gets the step. (schema-1 was written before ``Remote.marker_mtime_ns``, ``Headers.tag_count`` and
the events were appended: those need no step.)
"""

import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from gatewayfs.cli.main import main
from gatewayfs.errors import CorruptRecord, SchemaTooNew
from gatewayfs.meta.check import check
from gatewayfs.meta.migrate import MIGRATIONS, VERSION_KEY, migrate
from gatewayfs.meta.schema import SCHEMA_VERSION, Inode
from tests.component.meta.stores import make_file, new_store, open_store

ENVIRONMENTS = Path(__file__).parent / "environments"


def unpacked(version: int, to: Path) -> Path:
    with tarfile.open(ENVIRONMENTS / f"schema-{version}.tar.xz") as archive:
        # Debian 12's Python 3.11.2 is older than the filter, and the archive is our own.
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(to)
    return to / f"schema-{version}"


def test_there_is_an_environment_of_every_schema_and_a_step_from_each_to_the_next() -> None:
    versions = range(1, SCHEMA_VERSION + 1)
    assert {file.name for file in ENVIRONMENTS.iterdir()} == {f"schema-{version}.tar.xz" for version in versions}
    assert set(MIGRATIONS) == set(versions) - {SCHEMA_VERSION}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_an_older_environment_opens_with_all_that_is_in_it(version: int, tmp_path: Path) -> None:
    directory = unpacked(version, tmp_path)
    for _ in range(2):  # the second time as ours
        store = open_store(directory, prefix="site/")
        folder = store.lookup(1, b"dir")
        assert folder is not None
        uploaded, waiting = store.lookup(folder.ino, b"uploaded"), store.lookup(folder.ino, b"waiting")
        assert isinstance(uploaded, Inode)
        assert isinstance(waiting, Inode)
        assert stat.S_ISREG(uploaded.mode)
        assert uploaded.remote is not None
        assert (uploaded.remote.key, uploaded.remote.etag) == ("site/dir/uploaded", "etag")
        assert uploaded.headers is not None
        assert (uploaded.headers.content_type, uploaded.headers.tag_count) == ("text/plain", 0)
        assert uploaded.foreign == {"user-k": "v"}
        assert uploaded.placement is not None
        assert (waiting.dirty_since_ns, waiting.size) == (9, 100)
        assert store.parked(waiting.ino) is not None
        assert store.doomed("site/gone") is not None
        assert check(store) == []
        assert store.raw(VERSION_KEY) == str(SCHEMA_VERSION).encode()
        store.close()


def test_a_step_that_is_missing_is_no_way_on() -> None:
    with pytest.raises(CorruptRecord, match="no step from schema 1"):
        migrate({}, 1, 3, {2: lambda txn: None})


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_recover_leaves_a_newer_environment_alone(
    force: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "cache"
    store = new_store(directory)
    make_file(store, 1, b"waiting", dirty=1, size=10)
    store.flush()
    with store._env.begin(write=True) as txn:
        txn.put(VERSION_KEY, b"%d" % (SCHEMA_VERSION + 1))
    store.abandon()
    shutil.copytree(directory, tmp_path / "before")
    assert main(["recover", "--cache-dir", str(directory), *force]) == 1
    said = capsys.readouterr().err
    assert f"written by a newer GatewayFS (schema {SCHEMA_VERSION + 1}" in said
    assert "install that version again" in said
    assert not list(directory.glob("meta.old*"))
    before = tmp_path / "before" / "recovery" / "log"
    assert (directory / "recovery" / "log").read_bytes() == before.read_bytes()
    with pytest.raises(SchemaTooNew):
        open_store(directory)
