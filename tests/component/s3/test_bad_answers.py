"""Whatever answers in the store's place, the right error comes out, in time, and the file beneath is not harmed."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from gatewayfs.errors import (
    BadResponse,
    BucketNotFound,
    ConcurrentRequest,
    CredentialsRejected,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    StoreAccessDenied,
    StoreBusy,
    StoreError,
    StoreRefused,
    StoreUnreachable,
    UploadNotFound,
)
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.store import Condition, Deletion, FileRange, InlineBody, Part
from gatewayfs.types import ETag, ObjectKey
from tests.component.s3.conftest import SECRET, client_of
from tests.support import badserver
from tests.support.badserver import Answer, BadServer, dripping, html, raw, reply, s3_error, truncated
from tests.support.moto import free_port

KEY = ObjectKey("dir/key")
ETAG = ETag("0123456789abcdef0123456789abcdef")
DATE = "Mon, 23 Nov 2026 14:42:28 GMT"
OBJECT = {"ETag": f'"{ETAG}"', "Last_Modified": DATE}
Operation = Callable[[HttpObjectStore], Awaitable[object]]

OPERATIONS: dict[str, Operation] = {
    "head": lambda store: store.head(KEY),
    "get": lambda store: store.get(KEY, 0, 100),
    "list": lambda store: store.list_page("", delimiter=True),
    "put": lambda store: store.put(KEY, InlineBody(b"data"), {}),
    "conditional put": lambda store: store.put(KEY, InlineBody(b"data"), {}, condition=Condition(absent=True)),
    "copy": lambda store: store.copy(KEY, ObjectKey("b"), source_etag=None),
    "delete": lambda store: store.delete(KEY),
    "delete many": lambda store: store.delete_many([Deletion(KEY, ETAG)]),
    "create": lambda store: store.create_multipart(KEY, {}),
    "part": lambda store: store.upload_part(KEY, "id", 1, InlineBody(b"data")),
    "complete": lambda store: store.complete_multipart(KEY, "id", [Part(1, ETAG)]),
    "parts": lambda store: store.list_parts(KEY, "id"),
    "uploads": lambda store: store.list_uploads(""),
}
EVERY = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
WITH_BODY = pytest.mark.parametrize(
    "operation",
    [work for name, work in OPERATIONS.items() if name != "head"],
    ids=[n for n in OPERATIONS if n != "head"],
)


async def error_from(store: HttpObjectStore, operation: Operation, within_s: float = 3.0) -> StoreError:
    with trio.fail_after(within_s), pytest.raises(StoreError) as caught:
        await operation(store)
    error = caught.value
    assert error.operation
    assert "bucket at http://127.0.0.1" in str(error)
    assert SECRET not in str(error)
    assert "\n" not in str(error)
    return error


# --------------------------------------------------------------------------- no proper answer


@EVERY
@pytest.mark.parametrize("answer", [badserver.close, badserver.reset, badserver.hang], ids=["close", "reset", "hang"])
async def test_no_answer_is_unreachable(
    server: BadServer, store: HttpObjectStore, operation: Operation, answer: Answer
) -> None:
    server.otherwise(answer)
    assert type(await error_from(store, operation)) is not StoreError
    assert isinstance(await error_from(store, operation), StoreUnreachable)


async def test_an_answer_that_trickles_in_ends_at_the_deadline(server: BadServer, store: HttpObjectStore) -> None:
    server.otherwise(dripping(b"HTTP/1.1 200 OK\r\n" + b"X-Header: x\r\n" * 1000, 0.01))
    assert isinstance(await error_from(store, OPERATIONS["get"]), StoreUnreachable)


async def test_a_body_that_trickles_in_ends_at_the_deadline(server: BadServer, store: HttpObjectStore) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"
    server.otherwise(dripping(head + b"x" * 10_000, 0.01))
    assert isinstance(await error_from(store, OPERATIONS["list"]), StoreUnreachable)


async def test_a_server_that_stops_reading_ends_the_upload(
    server: BadServer, store: HttpObjectStore, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"\0" * (32 << 20))
    server.read_bodies = False
    body = FileRange(str(path), 0, 32 << 20)
    error = await error_from(store, lambda store: store.put(KEY, body, {}), within_s=10)
    assert isinstance(error, StoreUnreachable)


async def test_nobody_listening_is_unreachable() -> None:
    store = client_of(free_port())
    error = await error_from(store, OPERATIONS["list"])
    assert isinstance(error, StoreUnreachable)
    assert "refused" in str(error)


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    store = client_of(80, host="no-such-host.invalid")
    with trio.fail_after(30), pytest.raises(StoreUnreachable, match=r"no-such-host\.invalid"):
        await store.list_page("", delimiter=True)


@EVERY
@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02F",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
    ids=["ssh", "tls", "status", "header", "length", "lengths", "endless"],
)
async def test_what_is_not_http_is_a_bad_response(
    server: BadServer, store: HttpObjectStore, operation: Operation, garbage: bytes
) -> None:
    server.otherwise(raw(garbage))
    error = await error_from(store, operation)
    assert isinstance(error, BadResponse | StoreUnreachable), type(error)
    if garbage[:3] in (b"SSH", b"\x15\x03\x01"):
        assert isinstance(error, BadResponse)


# --------------------------------------------------------------------------- somebody else's answer


@EVERY
@pytest.mark.parametrize("status", [200, 203, 302, 400, 403, 404, 511])
async def test_a_web_page_is_never_taken_for_the_store(
    server: BadServer, store: HttpObjectStore, operation: Operation, status: int
) -> None:
    """A portal's 200 is no success and its 404 no "no such object": believing it would make files vanish."""
    server.otherwise(html(status))
    error = await error_from(store, operation)
    assert isinstance(error, BadResponse | StoreBusy | StoreRefused), type(error)
    if status in (200, 404):
        assert error.transient


async def test_a_web_page_for_head_is_a_bad_response(server: BadServer, store: HttpObjectStore) -> None:
    server.otherwise(raw(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 50\r\n\r\n"))
    assert isinstance(await error_from(store, OPERATIONS["head"]), BadResponse)


@WITH_BODY
@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_balancers_page_says_busy(
    server: BadServer, store: HttpObjectStore, operation: Operation, status: int
) -> None:
    server.otherwise(html(status, "<html><body>Bad Gateway</body></html>"))
    assert isinstance(await error_from(store, operation), StoreBusy)


@pytest.mark.parametrize("name", ["list", "copy", "create", "complete", "parts", "uploads"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"<a", b"<Other></Other>", b"\xff\xfe", b"<ListBucketResult>", b"x" * 100_000],
    ids=["empty", "json", "cut", "other", "binary", "open", "long"],
)
async def test_a_success_without_its_document_is_a_bad_response(
    server: BadServer, store: HttpObjectStore, name: str, body: bytes
) -> None:
    server.otherwise(reply(200, body))
    assert isinstance(await error_from(store, OPERATIONS[name]), BadResponse)


async def test_an_entity_bomb_is_a_bad_response(server: BadServer, store: HttpObjectStore) -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    server.otherwise(reply(200, bomb + b"<ListBucketResult><Name>&b;</Name></ListBucketResult>"))
    assert isinstance(await error_from(store, OPERATIONS["list"]), BadResponse)


async def test_a_listing_that_never_ends_is_a_bad_response(server: BadServer, store: HttpObjectStore) -> None:
    server.otherwise(raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"<a>" * (6 << 20)))
    assert isinstance(await error_from(store, OPERATIONS["list"], within_s=20), BadResponse)


@pytest.mark.parametrize("name", ["put", "part"])
async def test_a_write_without_etag_is_a_bad_response(server: BadServer, store: HttpObjectStore, name: str) -> None:
    server.otherwise(reply(200))
    assert isinstance(await error_from(store, OPERATIONS[name]), BadResponse)


async def test_a_page_that_says_more_without_a_token_is_a_bad_response(
    server: BadServer, store: HttpObjectStore
) -> None:
    server.otherwise(reply(200, b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"))
    assert isinstance(await error_from(store, OPERATIONS["list"]), BadResponse)


# --------------------------------------------------------------------------- S3's errors


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", ObjectNotFound),
        (404, "NoSuchBucket", BucketNotFound),
        (404, "NoSuchUpload", UploadNotFound),
        (412, "PreconditionFailed", PreconditionFailed),
        (409, "ConditionalRequestConflict", ConcurrentRequest),
        (409, "OperationAborted", ConcurrentRequest),
        (403, "AccessDenied", StoreAccessDenied),
        (403, "InvalidAccessKeyId", CredentialsRejected),
        (403, "SignatureDoesNotMatch", CredentialsRejected),
        (400, "ExpiredToken", CredentialsRejected),
        (403, "RequestTimeTooSkewed", CredentialsRejected),
        (403, "InvalidObjectState", ObjectArchived),
        (503, "SlowDown", StoreBusy),
        (503, "ServiceUnavailable", StoreBusy),
        (500, "InternalError", StoreBusy),
        (400, "RequestTimeout", StoreBusy),
        (429, "TooManyRequests", StoreBusy),
        (400, "BadDigest", StoreUnreachable),
        (400, "XAmzContentSHA256Mismatch", StoreUnreachable),
        (400, "EntityTooLarge", StoreRefused),
        (400, "KeyTooLongError", StoreRefused),
        (400, "MetadataTooLarge", StoreRefused),
        (501, "NotImplemented", StoreRefused),
        (418, "NobodyKnowsThis", StoreRefused),
        (599, "NobodyKnowsThis", StoreBusy),
    ],
)
async def test_s3s_error_becomes_ours(
    server: BadServer, store: HttpObjectStore, status: int, code: str, kind: type[StoreError]
) -> None:
    server.otherwise(s3_error(status, code, "what\r\nhappened"))
    error = await error_from(store, OPERATIONS["conditional put"])
    assert type(error) is kind
    assert (error.code, error.status, error.key, error.operation) == (code, status, KEY, "PutObject")
    assert kind.transient == error.transient


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, StoreAccessDenied),
        (404, ObjectNotFound),
        (412, PreconditionFailed),
        (409, ConcurrentRequest),
        (500, StoreBusy),
        (503, StoreBusy),
        (400, StoreRefused),
    ],
)
async def test_head_has_only_the_status(
    server: BadServer, store: HttpObjectStore, status: int, kind: type[StoreError]
) -> None:
    server.otherwise(reply(status, x_amz_request_id="1"))
    assert type(await error_from(store, OPERATIONS["head"])) is kind


@pytest.mark.parametrize("name", ["copy", "complete"])
@pytest.mark.parametrize(
    ("code", "kind"), [("InternalError", StoreBusy), ("Unheard", StoreBusy), ("NoSuchUpload", UploadNotFound)]
)
async def test_a_200_with_an_error_in_it_is_an_error(
    server: BadServer, store: HttpObjectStore, name: str, code: str, kind: type[StoreError]
) -> None:
    """S3 sends the status before it knows the outcome, then spaces to keep the line, then the truth."""
    server.otherwise(reply(200, b"   \n<?xml version='1.0'?>\n<Error><Code>%s</Code></Error>".strip() % code.encode()))
    assert type(await error_from(store, OPERATIONS[name])) is kind


@pytest.mark.parametrize(
    "answer",
    [
        s3_error(301, "PermanentRedirect", extra="<Region>eu-central-1</Region>"),
        s3_error(307, "TemporaryRedirect", extra="<Region>eu-central-1</Region>"),
        s3_error(400, "AuthorizationHeaderMalformed", extra="<Region>eu-central-1</Region>"),
        reply(301, x_amz_bucket_region="eu-central-1"),
    ],
)
async def test_the_wrong_region_is_named(server: BadServer, store: HttpObjectStore, answer: Answer) -> None:
    server.otherwise(answer)
    error = await error_from(store, OPERATIONS["list"])
    assert type(error) is StoreRefused
    assert "eu-central-1" in str(error)


async def test_a_wrong_clock_is_called_that(server: BadServer, store: HttpObjectStore) -> None:
    server.otherwise(s3_error(403, "RequestTimeTooSkewed"))
    assert "clock" in str(await error_from(store, OPERATIONS["list"]))


async def test_a_missing_bucket_is_named(server: BadServer, store: HttpObjectStore) -> None:
    server.otherwise(s3_error(404, "NoSuchBucket"))
    with pytest.raises(BucketNotFound, match="bucket at http://127"):
        await store.check_bucket()


async def test_the_stores_clock_is_known_from_its_answers(server: BadServer, store: HttpObjectStore) -> None:
    before = store.clock_skew_s
    server.otherwise(reply(404, Date="Mon, 23 Nov 1970 14:42:28 GMT", x_amz_request_id="1"))
    await error_from(store, OPERATIONS["head"])
    after = store.clock_skew_s
    assert before is None
    assert after is not None
    assert after < -1e9


# --------------------------------------------------------------------------- damaged downloads


@pytest.mark.parametrize(
    "answer",
    [
        truncated(206, b"x" * 50, 100, Content_Range="bytes 0-99/100", **OBJECT),
        reply(206, b"x" * 100, **OBJECT),
        reply(206, b"x" * 100, Content_Range="bytes 10-109/200", **OBJECT),
        reply(206, b"x" * 50, Content_Range="bytes 0-49/100", **OBJECT),
        reply(206, b"x" * 100, Content_Range="bytes 0-199/200", **OBJECT),
        reply(206, b"x" * 100, Content_Range="garbage", **OBJECT),
        reply(200, b"x" * 5000, **OBJECT),
        reply(206, b"x" * 100, Content_Range="bytes 0-99/100"),
        reply(206, b"x" * 100, Content_Range="bytes 0-99/100", ETag='"e"', Last_Modified="yesterday"),
        raw(
            b'HTTP/1.1 206 P\r\nETag: "e"\r\nLast-Modified: Mon, 23 Nov 2026 14:42:28 GMT\r\n'
            b"Content-Range: bytes 0-99/100\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
        raw(b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        raw(b"HTTP/1.1 206 P\r\nTransfer-Encoding: gzip\r\n\r\nzz\r\n"),
    ],
    ids=[
        "truncated",
        "no range",
        "other range",
        "short range",
        "contradiction",
        "garbage",
        "whole object",
        "no etag",
        "no date",
        "short chunks",
        "broken chunk",
        "encoding",
    ],
)
async def test_a_damaged_download_is_transient_and_stays_within_its_range(
    server: BadServer, store: HttpObjectStore, tmp_path: Path, answer: Answer
) -> None:
    path = tmp_path / "cached"
    path.write_bytes(b"#" * 300)
    server.otherwise(answer)
    for operation in (OPERATIONS["get"], lambda store: store.fetch(KEY, 0, 100, str(path), 100)):
        error = await error_from(store, operation)
        assert error.transient
        assert isinstance(error, StoreUnreachable | BadResponse)
    data = path.read_bytes()
    assert data[:100] == data[200:] == b"#" * 100


async def test_an_archived_object_is_recognised(server: BadServer, store: HttpObjectStore) -> None:
    server.answer(
        reply(200, b"", x_amz_storage_class="GLACIER", **OBJECT),
        reply(200, b"", x_amz_storage_class="GLACIER", x_amz_restore='ongoing-request="true"', **OBJECT),
        reply(
            200, b"", x_amz_storage_class="GLACIER", x_amz_restore='ongoing-request="false", expiry-date="x"', **OBJECT
        ),
        reply(200, b"", x_amz_storage_class="INTELLIGENT_TIERING", x_amz_archive_status="ARCHIVE_ACCESS", **OBJECT),
        reply(200, b"", x_amz_storage_class="STANDARD_IA", **OBJECT),
    )
    assert [(await store.head(KEY)).archived for _ in range(5)] == [True, True, False, True, False]


# --------------------------------------------------------------------------- secrets


async def test_secrets_reach_neither_reprs_nor_logs(
    server: BadServer, store: HttpObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.otherwise(s3_error(403, "SignatureDoesNotMatch", "wrong", f"<StringToSign>{SECRET}</StringToSign>"))
    error = await error_from(store, OPERATIONS["list"])
    shown = [repr(store), repr(store._connection), repr(store._transport), repr(error), str(error), caplog.text]
    shown.append(repr(store._connection.credentials()))
    assert not [text for text in shown if SECRET in text]
    assert SECRET not in server.requests[0].head.replace(f"session-{SECRET}", "")
