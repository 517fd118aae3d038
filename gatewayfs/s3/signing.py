"""AWS Signature Version 4 for S3 requests, header form.

botocore's signer is general (query strings to parse, case-blind header maps, debug logging) and costs more than all
else in a small request; S3's case is narrow, so this one is thirty lines and keeps the day's signing key. The tests
hold it to botocore's result, byte for byte, over generated requests.

The payload's SHA-256 is always signed, over https too: it is the one digest that every store checks before it
accepts the body, so a byte that flips anywhere between our memory and the store's is refused.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """One set of keys. Their secrets never appear in a repr."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


class Signer:
    """Signs requests for one region. Safe to use from several threads."""

    def __init__(self, region: str, service: str = "s3") -> None:
        self._region = region
        self._service = service
        self._cached: tuple[str, str, bytes] = ("", "", b"")

    def __repr__(self) -> str:
        return f"<Signer {self._service} {self._region}>"

    def headers(
        self,
        credentials: Credentials,
        now_s: float,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        payload_sha256: str,
    ) -> dict[str, str]:
        """Return ``headers`` with the date, payload, token and authorization headers added.

        Args:
            now_s: seconds since 1970; the store refuses requests some minutes off its own clock.
            path, query: percent-encoded as sent; the query's pairs sorted, each with its "=".
            headers: lower-case names, ``host`` among them; all of them are signed.
            payload_sha256: hexadecimal digest of the body.
        """
        stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {**headers, "x-amz-content-sha256": payload_sha256, "x-amz-date": stamp}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        names = sorted(signed)
        canonical = "\n".join(
            (
                method,
                path,
                query,
                *(f"{name}:{_trim(signed[name])}" for name in names),
                "",
                ";".join(names),
                payload_sha256,
            )
        )
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = _hmac(self._key(credentials.secret_key, stamp[:8]), to_sign).hex()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return signed

    def _key(self, secret: str, day: str) -> bytes:
        cached_secret, cached_day, key = self._cached
        if cached_secret != secret or cached_day != day:
            key = _hmac(f"AWS4{secret}".encode(), day)
            for part in (self._region, self._service, "aws4_request"):
                key = _hmac(key, part)
            # One assignment: another thread sees the old triple or the new one.
            self._cached = (secret, day, key)
        return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _trim(value: str) -> str:
    """SigV4's Trimall: no blanks around the value, single blanks within."""
    if "  " in value or value[:1] == " " or value[-1:] == " ":
        return " ".join(filter(None, value.split(" ")))
    return value
