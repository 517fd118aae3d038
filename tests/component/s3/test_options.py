"""What the configuration asks for is on every request it concerns, and a body that is not the object's is noticed."""

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gatewayfs.errors import ObjectDamaged, StoreRefused
from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.offload import Offload
from gatewayfs.s3.checksums import ALGORITHMS
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.http import Endpoint
from gatewayfs.s3.options import ObjectOptions
from gatewayfs.s3.requests import Connection
from gatewayfs.s3.signing import Credentials
from gatewayfs.s3.store import Deletion, FileRange, Heritage, InlineBody, ObjectHeaders, Part
from gatewayfs.types import ETag, ObjectKey
from tests.component.s3.conftest import QUICK
from tests.support.badserver import BadServer, reply

KEY = ObjectKey("key")
BODY = InlineBody(b"data")
WRITTEN = reply(200, b"", ETag='"e"')
COPIED = reply(200, b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>")
CREATED = reply(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
COMPLETED = reply(
    200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>", x_amz_request_id="1"
)
LISTED = reply(200, b"<ListBucketResult/>")
PART_COPIED = reply(200, b"<CopyPartResult><ETag>e</ETag></CopyPartResult>")
OBJECT = {"ETag": '"e"', "Last_Modified": "Mon, 23 Nov 2026 14:42:28 GMT"}
HEAD = reply(200, b"", **OBJECT)

EVERYTHING = ObjectOptions(
    storage_class="STANDARD_IA",
    acl="bucket-owner-full-control",
    tags=(("project", "a b"), ("kept", "10y")),
    encryption="sse-kms",
    kms_key="alias/files",
    bucket_key=True,
    checksum="crc64nvme",
    requester_pays=True,
    bucket_owner="123456789012",
)
PLACED = {
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-acl": "bucket-owner-full-control",
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "alias/files",
    "x-amz-server-side-encryption-bucket-key-enabled": "true",
}
TAGGED = {"x-amz-tagging": "project=a%20b&kept=10y"}
ALWAYS = {"x-amz-request-payer": "requester", "x-amz-expected-bucket-owner": "123456789012"}
FROM = {"x-amz-source-expected-bucket-owner": "123456789012"}
CRC_OF_DATA = {
    "x-amz-checksum-crc64nvme": base64.b64encode(ALGORITHMS["crc64nvme"].update(b"data", 0).to_bytes(8)).decode()
}
UPLOAD_CRC = {"x-amz-checksum-algorithm": "CRC64NVME", "x-amz-checksum-type": "FULL_OBJECT"}

Operation = Callable[[HttpObjectStore], Awaitable[object]]
CASES: dict[str, tuple[Operation, Callable[..., bool], dict[str, str]]] = {
    "head": (lambda store: store.head(KEY), HEAD, {}),
    "list": (lambda store: store.list_page("", delimiter=True), LISTED, {}),
    "delete": (lambda store: store.delete(KEY), reply(204), {}),
    "delete many": (lambda store: store.delete_many([Deletion(KEY)]), reply(200, b"<DeleteResult/>"), {}),
    "put": (lambda store: store.put(KEY, BODY, {}), WRITTEN, PLACED | TAGGED | CRC_OF_DATA),
    "copy": (lambda store: store.copy(KEY, ObjectKey("b"), source_etag=None), COPIED, PLACED | FROM),
    "create": (lambda store: store.create_multipart(KEY, {}), CREATED, PLACED | TAGGED | UPLOAD_CRC),
    "part": (lambda store: store.upload_part(KEY, "u", 1, BODY), WRITTEN, CRC_OF_DATA),
    "part copy": (
        lambda store: store.copy_part(KEY, "u", 1, KEY, 0, 4, source_etag=None),
        PART_COPIED,
        FROM,
    ),
    "complete": (lambda store: store.complete_multipart(KEY, "u", [Part(1, ETag("e"))]), COMPLETED, {}),
    "parts": (lambda store: store.list_parts(KEY, "u"), reply(200, b"<ListPartsResult/>"), {}),
}
CONCERNED = {*PLACED, *TAGGED, *ALWAYS, *FROM, *CRC_OF_DATA, *UPLOAD_CRC}


def store_at(server: BadServer, options: ObjectOptions) -> HttpObjectStore:
    endpoint = Endpoint("127.0.0.1", server.port, "/bucket/")
    connection = Connection("bucket", endpoint, "us-east-1", lambda: Credentials("A", "B"))
    return HttpObjectStore(connection, Offload(4), SystemClock(), timeouts=QUICK, options=options)


@pytest.mark.parametrize("name", CASES)
async def test_every_request_carries_what_concerns_it(server: BadServer, name: str) -> None:
    operation, answer, expected = CASES[name]
    server.otherwise(answer)
    store = store_at(server, EVERYTHING)
    await operation(store)
    store.close()
    (request,) = server.requests
    carried = {header: request.header(header) for header in CONCERNED if request.header(header)}
    assert carried == ALWAYS | expected
    signed = request.header("authorization").split("SignedHeaders=")[1].split(",")[0].split(";")
    assert set(carried) <= set(signed)


@pytest.mark.parametrize("name", CASES)
async def test_nothing_is_said_that_nobody_asked_for(server: BadServer, name: str) -> None:
    operation, answer, _ = CASES[name]
    server.otherwise(answer)
    store = store_at(server, ObjectOptions())
    await operation(store)
    store.close()
    (request,) = server.requests
    assert [header for header in CONCERNED if request.header(header)] == []


@pytest.mark.parametrize("name", CASES)
async def test_a_read_only_client_sends_nothing_that_could_change_the_bucket(server: BadServer, name: str) -> None:
    operation, answer, _ = CASES[name]
    server.otherwise(answer)
    connection = Connection(
        "bucket", Endpoint("127.0.0.1", server.port, "/bucket/"), "us-east-1", lambda: Credentials("A", "B")
    )
    store = HttpObjectStore(connection, Offload(4), SystemClock(), timeouts=QUICK, read_only=True)
    try:
        await operation(store)
    except StoreRefused:
        assert server.requests == []
    else:
        assert {request.method for request in server.requests} <= {"GET", "HEAD"}
        assert name in ("head", "list", "parts")
    finally:
        store.close()


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (ObjectHeaders(), "STANDARD_IA"),
        (ObjectHeaders(heritage=Heritage(KEY, 0, ours=True)), "STANDARD_IA"),
        (ObjectHeaders(heritage=Heritage(KEY, 0)), ""),
        (ObjectHeaders(storage_class="GLACIER_IR", heritage=Heritage(KEY, 0)), "GLACIER_IR"),
        (ObjectHeaders(storage_class="GLACIER", heritage=Heritage(KEY, 0)), "STANDARD_IA"),
    ],
    ids=["new", "ours", "their standard", "theirs", "restored"],
)
def test_an_object_stays_in_its_class(given: ObjectHeaders, sent: str) -> None:
    assert EVERYTHING.of_objects(given).get("x-amz-storage-class", "") == sent


async def test_an_object_without_tags_costs_no_request(server: BadServer) -> None:
    server.otherwise(WRITTEN)
    store = store_at(server, EVERYTHING)
    await store.put(KEY, BODY, {}, ObjectHeaders(heritage=Heritage(KEY, 0)))
    store.close()
    (request,) = server.requests
    assert request.header("x-amz-tagging") == ""


TAGS = reply(200, b"<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>")


@pytest.mark.parametrize(
    ("heritage", "options"),
    [
        (Heritage(KEY, 1), ObjectOptions()),
        (Heritage(KEY, None), ObjectOptions()),
        (Heritage(KEY, None, ours=True), EVERYTHING),
        (Heritage(KEY, 0), ObjectOptions(check_tags=True)),
    ],
    ids=["seen", "unknown", "ours", "checked"],
)
async def test_tags_that_may_be_there_are_asked_for(
    server: BadServer, heritage: Heritage, options: ObjectOptions
) -> None:
    server.answer(TAGS)
    server.otherwise(WRITTEN)
    store = store_at(server, options)
    await store.put(ObjectKey("b"), BODY, {}, ObjectHeaders(heritage=heritage))
    store.close()
    asked, put = server.requests
    assert asked.target == "/bucket/key?tagging="
    assert put.header("x-amz-tagging") == "a=b%20c"


# --------------------------------------------------------------------------- checksums on the way back

STORED = b"what was stored"


def download(body: bytes, checksum: str, kind: str = "FULL_OBJECT") -> Callable[..., bool]:
    return reply(
        206,
        body,
        Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}",
        x_amz_checksum_crc64nvme=checksum,
        x_amz_checksum_type=kind,
        **OBJECT,
    )


CRC = ALGORITHMS["crc64nvme"].encoded(ALGORITHMS["crc64nvme"].update(STORED, 0))


@pytest.mark.semantics("damaged-object")
@pytest.mark.parametrize("how", ["get", "fetch"])
async def test_a_whole_object_is_compared_with_its_checksum(server: BadServer, tmp_path: Path, how: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    length = len(STORED)
    store = store_at(server, ObjectOptions(checksum="crc64nvme"))

    async def read() -> None:
        if how == "get":
            await store.get(KEY, 0, length)
        else:
            await store.fetch(KEY, 0, length, str(path), 0)

    server.answer(download(STORED, CRC))
    await read()
    assert server.requests[0].header("x-amz-checksum-mode") == "ENABLED"
    server.answer(download(b"what was sTored", CRC))
    with pytest.raises(ObjectDamaged, match="checksum"):
        await read()
    # A checksum of the parts' checksums says nothing about the bytes.
    server.answer(download(STORED, "AAAAAAAAAAA=-3", "COMPOSITE"))
    await read()
    store.close()


async def test_a_large_body_travels_with_the_checksum_of_all_of_it(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayfs.s3.bodies.IN_MEMORY_BYTES_MAX", 1000)
    monkeypatch.setattr("gatewayfs.s3.bodies.PIECE_BYTES", 700)
    path = tmp_path / "file"
    path.write_bytes(STORED * 200)
    server.otherwise(WRITTEN)
    store = store_at(server, ObjectOptions(checksum="crc32c"))
    await store.put(KEY, FileRange(str(path), 0, len(STORED) * 200), {})
    store.close()
    expected = ALGORITHMS["crc32c"].encoded(ALGORITHMS["crc32c"].update(STORED * 200, 0))
    assert server.requests[0].header("x-amz-checksum-crc32c") == expected
