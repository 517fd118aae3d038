"""AWS Signature Version 4 for S3 requests: botocore's signer, given the body's digest instead of the body.

The payload's SHA-256 is always signed, over https too: it is the one digest that every store checks before it
accepts the body, so a byte that flips anywhere between our memory and the store's is refused.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

# At debug level it prints every request it signs, session token included.
logging.getLogger("botocore.auth").setLevel(logging.INFO)

EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """One set of keys. Their secrets never appear in a repr."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


def sign(
    credentials: Credentials, region: str, method: str, url: str, headers: Mapping[str, str], payload_sha256: str
) -> dict[str, str]:
    """Return ``headers`` with the date, payload, token and authorization headers added, all names in lower case.

    Args:
        url: complete, percent-encoded as sent; the query's pairs sorted, each with its "=".
        headers: lower-case names, ``host`` among them; all of them are signed.
        payload_sha256: hexadecimal digest of the body.
    """
    request = AWSRequest(method, url, headers)
    keys = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.token or None)
    _Signer(keys, region, payload_sha256).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


class _Signer(S3SigV4Auth):
    def __init__(self, keys: BotoCredentials, region: str, payload_sha256: str) -> None:
        super().__init__(keys, "s3", region)
        self._payload_sha256 = payload_sha256

    def payload(self, request: AWSRequest) -> str:
        return self._payload_sha256
