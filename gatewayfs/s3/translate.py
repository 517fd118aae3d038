"""S3's errors in our language: the one place where HTTP status and error codes become exceptions.

The error code in the XML body decides; where there is none (HEAD has no body) the status does. An answer that is not
S3's at all, such as a captive portal's or a proxy's HTML page, is BadResponse whatever its status says below 500:
reading its 404 as "no such object" would make files vanish.
"""

import re
from dataclasses import dataclass
from types import MappingProxyType

from gatewayfs.errors import (
    BadResponse,
    BucketNotFound,
    ConcurrentRequest,
    CredentialsRejected,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoreAccessDenied,
    StoreBusy,
    StoreError,
    StoreRefused,
    StoreUnreachable,
    UploadNotFound,
)
from gatewayfs.s3.wire import Reply
from gatewayfs.s3.xml import NotXml, parse_error

MESSAGE_CHARACTERS_MAX = 240

_BY_CODE: MappingProxyType[str, type[StoreError]] = MappingProxyType(
    {
        "NoSuchKey": ObjectNotFound,
        "NoSuchBucket": BucketNotFound,
        "NoSuchUpload": UploadNotFound,
        "PreconditionFailed": PreconditionFailed,
        "ConditionalRequestConflict": ConcurrentRequest,
        "OperationAborted": ConcurrentRequest,
        "AccessDenied": StoreAccessDenied,
        "AllAccessDisabled": StoreAccessDenied,
        "AccountProblem": CredentialsRejected,
        "AuthFailure": CredentialsRejected,
        "ExpiredToken": CredentialsRejected,
        "InvalidAccessKeyId": CredentialsRejected,
        "InvalidSecurity": CredentialsRejected,
        "InvalidToken": CredentialsRejected,
        "NotSignedUp": CredentialsRejected,
        "RequestExpired": CredentialsRejected,
        "RequestTimeTooSkewed": CredentialsRejected,
        "SignatureDoesNotMatch": CredentialsRejected,
        "TokenRefreshRequired": CredentialsRejected,
        "UnrecognizedClientException": CredentialsRejected,
        "InvalidObjectState": ObjectArchived,
        "ObjectNotInActiveTierError": ObjectArchived,
        "InvalidRange": RangeNotSatisfiable,
        "BandwidthLimitExceeded": StoreBusy,
        "InternalError": StoreBusy,
        "RequestLimitExceeded": StoreBusy,
        "RequestTimeout": StoreBusy,
        "RequestTimeoutException": StoreBusy,
        "ServiceUnavailable": StoreBusy,
        "SlowDown": StoreBusy,
        "Throttling": StoreBusy,
        "ThrottlingException": StoreBusy,
        "TooManyRequests": StoreBusy,
        "TooManyRequestsException": StoreBusy,
        # The body that arrived is not the body we signed: the line damaged it. Sending it again is right.
        "BadDigest": StoreUnreachable,
        "IncompleteBody": StoreUnreachable,
        "XAmzContentSHA256Mismatch": StoreUnreachable,
    }
)

_BY_STATUS: MappingProxyType[int, type[StoreError]] = MappingProxyType(
    {
        401: CredentialsRejected,
        403: StoreAccessDenied,
        404: ObjectNotFound,
        408: StoreBusy,
        409: ConcurrentRequest,
        412: PreconditionFailed,
        416: RangeNotSatisfiable,
        429: StoreBusy,
        501: StoreRefused,
    }
)

_CURES = MappingProxyType(
    {
        "RequestTimeTooSkewed": "this machine's clock is too far from the store's: set the clock",
        "InvalidAccessKeyId": "the store does not know this access key",
        "SignatureDoesNotMatch": "the secret key does not belong to the access key",
        "ExpiredToken": "the session token has expired",
        "InvalidToken": "the session token is not valid",
        "InvalidObjectState": "the object is in an archive tier: restore it",
        "ObjectNotInActiveTierError": "the object is in an archive tier: restore it",
    }
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was asked, for the messages. ``where`` names bucket and endpoint; ``key`` is "" for bucket requests."""

    operation: str
    where: str
    region: str
    key: str = ""


def error_of(attempt: Attempt, reply: Reply) -> StoreError:
    """Return the exception for a reply that is an error (a 200 with an Error body among them)."""
    if is_web_page(reply):
        return _foreign_answer(attempt, reply)
    try:
        code, message, region = parse_error(reply.body)
    except NotXml:
        return _foreign_answer(attempt, reply)
    region = region or reply.headers.get("x-amz-bucket-region", "")
    if _is_wrong_region(reply.status, code, region, attempt.region):
        text = f"the bucket is in region {region or 'another'}, not {attempt.region}"
        return _build(StoreRefused, attempt, text, code, reply.status)
    kind = _BY_CODE.get(code) or _by_status(reply.status, attempt)
    text = ": ".join(filter(None, (code or f"HTTP status {reply.status}", _CURES.get(code) or _one_line(message))))
    return _build(kind, attempt, text, code, reply.status)


def error_of_key(attempt: Attempt, code: str, message: str) -> StoreError:
    """Return the exception for one key of a request for many, all of whose status is 200."""
    text = ": ".join(filter(None, (code or "refused without a reason", _one_line(message))))
    return _build(_BY_CODE.get(code, StoreRefused), attempt, text, code, 200)


def not_s3(attempt: Attempt, what: str, status: int = 0) -> BadResponse:
    """Return the exception for an answer that does not look like S3's."""
    text = f"{what}; is something else answering in the store's place?"
    return BadResponse(_sentence(attempt, text), operation=attempt.operation, key=attempt.key, status=status)


def in_place(error: StoreError, attempt: Attempt) -> StoreError:
    """Give an error from below, which knows only the connection, its place: operation, bucket, key."""
    if error.operation:
        return error
    text = _sentence(attempt, str(error))
    return type(error)(text, operation=attempt.operation, key=attempt.key, code=error.code, status=error.status)


def _foreign_answer(attempt: Attempt, reply: Reply) -> StoreError:
    if reply.status >= 500:
        return _build(StoreBusy, attempt, f"HTTP status {reply.status}", "", reply.status)
    if reply.status == 407:
        return _build(StoreRefused, attempt, "the proxy asks for authentication", "", reply.status)
    return not_s3(attempt, f"an answer that is not S3's (HTTP status {reply.status})", reply.status)


def is_web_page(reply: Reply) -> bool:
    """Tell whether a reply, a success perhaps, is a web page: a portal's login, a proxy's complaint."""
    marked = any(name.startswith("x-amz") for name in reply.headers)  # moto answers HEAD with an HTML type and this
    return reply.headers.get("content-type", "").startswith("text/html") and not marked


def _by_status(status: int, attempt: Attempt) -> type[StoreError]:
    if status == 404 and not attempt.key:
        return BucketNotFound
    # 200: an Error body with a code nobody knows, from a copy or completion that broke on the way.
    return _BY_STATUS.get(status, StoreBusy if status >= 500 or status == 200 else StoreRefused)


def _is_wrong_region(status: int, code: str, region: str, ours: str) -> bool:
    if code in ("PermanentRedirect", "TemporaryRedirect", "Redirect", "IncorrectEndpoint") or 300 <= status < 400:
        return True
    return code in ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException") and region not in ("", ours)


def _build(kind: type[StoreError], attempt: Attempt, text: str, code: str, status: int) -> StoreError:
    return kind(_sentence(attempt, text), operation=attempt.operation, key=attempt.key, code=code, status=status)


def _sentence(attempt: Attempt, text: str) -> str:
    key = f" {attempt.key!r}" if attempt.key else ""
    return f"{attempt.operation}{key} on {attempt.where}: {text}"


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x20\x7f]+", " ", text).strip()[:MESSAGE_CHARACTERS_MAX]
