"""https with and without a certificate we trust, and HTTP proxies before either."""

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gatewayfs.errors import BadResponse, StoreUnreachable
from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.offload import Offload
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.http import Endpoint, Proxy
from gatewayfs.s3.requests import Connection as StoreConnection
from gatewayfs.s3.signing import Credentials
from gatewayfs.s3.store import InlineBody
from gatewayfs.types import ObjectKey
from tests.component.s3.conftest import QUICK
from tests.support import badserver
from tests.support.badserver import BadServer, Connection, raw, reply

KEY = ObjectKey("key")
HEAD = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nLast-Modified: Mon, 23 Nov 2026 14:42:28 GMT\r\nContent-Length: 0\r\n\r\n'
OBJECT = raw(HEAD, keep=True)


@dataclass(frozen=True)
class Authority:
    """A certificate for 127.0.0.1 and for s3.test, signed by itself."""

    certificate: Path
    server: ssl.SSLContext

    @property
    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s3.test")])
    names = [x509.DNSName("s3.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    path, key_path = directory / "cert.pem", directory / "key.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path, key_path)
    return Authority(path, server)


@pytest.fixture
def secure(authority: Authority) -> Iterator[BadServer]:
    with BadServer(authority.server) as running:
        yield running


def store_at(host: str, port: int, tls: ssl.SSLContext | None, proxy: Proxy | None = None) -> HttpObjectStore:
    endpoint = Endpoint(host, port, "/bucket/", tls, proxy)
    connection = StoreConnection("bucket", endpoint, "us-east-1", lambda: Credentials("A", "B"))
    return HttpObjectStore(connection, Offload(4), SystemClock(), timeouts=QUICK)


async def test_https_works_and_keeps_its_connection(secure: BadServer, authority: Authority) -> None:
    store = store_at("127.0.0.1", secure.port, authority.trusting)
    secure.otherwise(OBJECT)
    for _ in range(5):
        assert (await store.head(KEY)).etag == "e"
    await store.put(KEY, InlineBody(b"x" * 1_000_000), {})
    assert (secure.accepted, len(secure.requests[-1].body)) == (1, 1_000_000)
    store.close()


async def test_an_untrusted_certificate_is_named_as_the_reason(secure: BadServer) -> None:
    store = store_at("127.0.0.1", secure.port, ssl.create_default_context())
    with pytest.raises(StoreUnreachable, match="not trusted"):
        await store.head(KEY)
    assert secure.requests == []


async def test_a_certificate_for_another_host_is_refused(secure: BadServer, authority: Authority) -> None:
    store = store_at("localhost", secure.port, authority.trusting)
    with pytest.raises(StoreUnreachable, match="not trusted"):
        await store.head(KEY)
    assert secure.requests == []


async def test_plain_http_where_tls_was_expected_is_unreachable(authority: Authority) -> None:
    with BadServer() as server:
        server.otherwise(OBJECT)
        store = store_at("127.0.0.1", server.port, authority.trusting)
        with pytest.raises(StoreUnreachable):
            await store.head(KEY)


async def test_a_handshake_that_hangs_ends_in_time(authority: Authority) -> None:
    with BadServer() as server, trio.fail_after(8):
        store = store_at("127.0.0.1", server.port, authority.trusting)
        with pytest.raises(StoreUnreachable, match="timed out"):
            await store.head(KEY)


async def test_cancelling_ends_a_request_over_tls(secure: BadServer, authority: Authority) -> None:
    store = store_at("127.0.0.1", secure.port, authority.trusting)
    secure.answer(OBJECT, badserver.hang)
    secure.otherwise(OBJECT)
    await store.head(KEY)
    with trio.fail_after(0.25), trio.move_on_after(0.1) as scope:
        await store.head(KEY)
    assert scope.cancelled_caught
    assert (await store.head(KEY)).etag == "e"
    store.close()


# --------------------------------------------------------------------------- proxies


async def test_plain_http_goes_through_the_proxy_by_absolute_address() -> None:
    with BadServer() as proxy:
        proxy.otherwise(OBJECT)
        store = store_at("s3.test", 80, None, Proxy("127.0.0.1", proxy.port, "Basic abc"))
        await store.head(KEY)
        store.close()
        (request,) = proxy.requests
    assert request.target == "http://s3.test/bucket/key"
    assert (request.header("host"), request.header("proxy-authorization")) == ("s3.test", "Basic abc")


async def test_https_goes_through_the_proxy_in_a_tunnel(authority: Authority) -> None:
    inside: list[bytes] = []

    def tunnel(connection: Connection) -> bool:
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with authority.server.wrap_socket(connection.sock, server_side=True) as sock:
            inside.append(sock.recv(65536))
            sock.sendall(HEAD)
        return False

    with BadServer() as proxy:
        proxy.otherwise(tunnel)
        store = store_at("s3.test", 443, authority.trusting, Proxy("127.0.0.1", proxy.port, "Basic abc"))
        assert (await store.head(KEY)).etag == "e"
        (request,) = proxy.requests
        store.close()
    assert (request.method, request.target) == ("CONNECT", "s3.test:443")
    assert request.header("proxy-authorization") == "Basic abc"
    assert inside[0].startswith(b"HEAD /bucket/key HTTP/1.1\r\n")
    assert b"proxy-authorization" not in inside[0].lower()


async def test_a_proxy_that_refuses_is_named(authority: Authority) -> None:
    with BadServer() as proxy:
        proxy.otherwise(reply(407))
        store = store_at("s3.test", 443, authority.trusting, Proxy("127.0.0.1", proxy.port))
        with pytest.raises(BadResponse, match=f"proxy 127.0.0.1:{proxy.port}.*407"):
            await store.head(KEY)
