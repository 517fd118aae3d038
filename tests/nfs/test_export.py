"""What NFS clients see of a share, over NFSv3 and NFSv4.0 (what libnfs speaks), with a real nfs-ganesha."""

import errno
import os
from functools import partial

import pytest

from tests.nfs.conftest import Serve, Served
from tests.support.libnfs import LOCK, TRY_LOCK, UNLOCK, Client
from tests.support.syscalls import fails

ENTRIES = int(os.environ.get("GATEWAYFS_NFS_ENTRIES", "1000"))


@pytest.fixture(scope="module")
def served(serve: Serve) -> Served:
    return serve()


@pytest.mark.parametrize("version", [3, 4])
def test_a_client_creates_reads_renames_links_and_lists(served: Served, version: int) -> None:
    gateway, server = served
    top = f"/v{version}"

    def work() -> None:
        with server.mount("/share", version=version, uid=1000, gid=1000) as client:
            client.mkdir(top)
            client.write(f"{top}/draft", b"content")
            client.rename(f"{top}/draft", f"{top}/final")
            client.symlink("final", f"{top}/link")
            assert client.readlink(f"{top}/link") == "final"
            assert client.stat(f"{top}/link").nfs_size == len("final")
            assert client.read(f"{top}/final") == b"content"
            for number in range(300):
                client.open(f"{top}/{number:04}", os.O_RDWR | os.O_CREAT).close()
            assert client.listdir(top) == sorted(["final", "link", *(f"{number:04}" for number in range(300))])
            client.unlink(f"{top}/0000")
            with fails(errno.ENOENT):
                client.read(f"{top}/0000")

    server.inside(work)
    gateway.drain()
    assert gateway.bucket.body(f"v{version}/final") == b"content"
    metadata = gateway.bucket.metadata(f"v{version}/final")
    assert (metadata["file-owner"], metadata["file-group"]) == ("1000", "1000")


@pytest.mark.parametrize("version", [3, 4])
def test_permissions_hold_between_users_and_the_clients_root_is_nobody(served: Served, version: int) -> None:
    gateway, server = served

    def work() -> None:
        with (
            server.mount("/share", version=version, uid=1000, gid=1000) as owner,
            server.mount("/share", version=version, uid=1001, gid=1001) as other,
            server.mount("/share", version=version, uid=0, gid=0) as root,
        ):
            owner.write(f"/private{version}", b"secret", 0o600)
            for stranger in (other, root):
                with pytest.raises(PermissionError):
                    stranger.read(f"/private{version}")
                with pytest.raises(PermissionError):
                    stranger.chmod(f"/private{version}", 0o666)
            root.write(f"/by-root{version}", b"x")
            found = root.stat(f"/by-root{version}")
            assert (found.nfs_uid, found.nfs_gid) == (65534, 65534)
            with pytest.raises(PermissionError):
                root.chown(f"/by-root{version}", 1000, 1000)

    server.inside(work)
    gateway.drain()
    assert gateway.bucket.metadata(f"by-root{version}")["file-owner"] == "65534"


def test_a_lock_of_one_client_keeps_another_out(served: Served) -> None:
    _, server = served

    def work() -> None:
        with (
            server.mount("/share", version=4, uid=1000) as first,
            server.mount("/share", version=4, uid=1000) as second,
            server.mount("/share", version=4, uid=1000) as third,
        ):
            first.write("/locked", bytes(100))
            # libnfs counts wrongly once a file had locks, and cannot close it; the server forgets it with the client.
            mine, theirs, another = (client.open("/locked", os.O_RDWR) for client in (first, second, third))
            mine.lock(LOCK, 10)
            with pytest.raises(OSError, match="DENIED"):
                theirs.lock(TRY_LOCK, 10)
            mine.lock(UNLOCK, 10)
            another.lock(TRY_LOCK, 10)

    server.inside(work)


def test_what_a_refresh_finds_is_seen_by_clients_at_once(served: Served) -> None:
    gateway, server = served

    def before() -> Client:
        client = server.mount("/share", version=3, uid=1000)
        client.write("/seen", b"first")
        assert client.read("/seen") == b"first"
        assert "new" not in client.listdir("/")
        return client

    def after() -> None:
        assert "new" in client.listdir("/")
        assert client.stat("/seen").nfs_size == len(b"replaced by others")
        assert client.read("/seen") == b"replaced by others"
        assert client.read("/new") == b"new"
        client.close()

    client = server.inside(before)
    gateway.drain()
    gateway.bucket.put("seen", b"replaced by others")
    gateway.bucket.put("new", b"new")
    gateway.verb("refresh-cache", "--wait", str(gateway.mount_dir))
    gateway.wait_until(lambda: "new" in os.listdir(gateway.mount_dir), 30, "the refresh")
    server.inside(after)


def test_read_only_and_client_lists_are_kept_by_the_server(served: Served) -> None:
    gateway, server = served

    def refused(version: int) -> None:
        with pytest.raises(OSError):
            Client("/share", version=version, uid=1000)

    def read_only() -> None:
        with server.mount("/share", version=3, uid=1000) as client:
            assert client.read("/kept") == b"kept"
            with fails(errno.EROFS):
                client.write("/kept", b"changed")

    def kept() -> None:
        with server.mount("/share", version=3, uid=1000) as client:
            client.write("/kept", b"kept")

    server.inside(kept)
    for settings, check in (
        ({"export.read_only": "true"}, read_only),
        ({"export.clients": "127.0.0.0/8=ro,10.0.0.0/8"}, read_only),
        ({"export.clients": "10.0.0.0/8"}, lambda: refused(3)),
        ({"export.clients": "127.0.0.1=none,127.0.0.0/8"}, lambda: refused(4)),
    ):
        server.install(gateway, **settings)
        server.reread()
        server.inside(check)
    server.install(gateway)
    server.reread()
    server.inside(kept)


def test_clients_come_over_ipv6_and_list_a_large_directory(served: Served) -> None:
    gateway, server = served
    large = gateway.mount_dir / "large"
    large.mkdir()
    names = [f"{number:05}" for number in range(ENTRIES)]
    for name in names:
        (large / name).touch()

    def listed(version: int) -> list[str]:
        with server.mount("/share", version=version, uid=1000, server="::1") as client:
            return client.listdir("/large")

    for version in (3, 4):
        assert server.inside(partial(listed, version)) == names


def test_ganesha_itself_judges_a_configuration(served: Served) -> None:
    gateway, server = served
    arguments = [*server.arguments(gateway, **{"export.clients": "10.0.0.0/8,2001:db8::/32=ro"}), "--check"]
    assert "nfs-ganesha accepts the export /share" in gateway.verb(*arguments).stdout
    main = server.etc / "ganesha.conf"
    text = main.read_text()
    main.write_text("EXPORT { Nonsense = 3; }\n" + text)
    try:
        refused = gateway.verb(*arguments, check=False)
    finally:
        main.write_text(text)
    assert refused.returncode == 1
    assert "Unknown parameter (Nonsense)" in refused.stderr


def test_ganesha_takes_kerberos_and_says_that_its_key_is_missing(served: Served) -> None:
    gateway, server = served
    arguments = [*server.arguments(gateway, **{"export.security": "krb5,krb5i,krb5p"}), "--check"]
    assert "nfs-ganesha accepts the export /share" in gateway.verb(*arguments).stdout
    main = server.etc / "ganesha.conf"
    text = main.read_text()
    main.write_text(text.replace("Active_krb5 = false", "Active_krb5 = true").replace("/etc/krb5", "/nowhere/krb5"))
    try:
        refused = gateway.verb(*arguments, check=False)
    finally:
        main.write_text(text)
    assert refused.returncode == 1
    assert "Cannot acquire credentials for principal nfs" in refused.stderr
