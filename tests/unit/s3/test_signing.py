"""Signed by digest or with the body at hand: the same signature, whatever the key, the query and the metadata."""

import hashlib
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import example, given
from hypothesis import strategies as st

from gatewayfs.s3.headers import quote_key, quote_query
from gatewayfs.s3.signing import Credentials, sign

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW_S = 1_795_444_948.75

values = st.from_regex(r"[!-~]{1,8}( {1,3}[!-~]{1,8}){0,3}", fullmatch=True) | st.just("grüße")
headers = st.dictionaries(st.from_regex(r"x-amz-meta-[a-z0-9._-]{1,12}", fullmatch=True), values, max_size=6)
queries = st.dictionaries(st.from_regex(r"[a-z-]{1,12}", fullmatch=True), st.text(max_size=12), max_size=4)


def botocores(
    method: str, path: str, query: str, given_headers: dict[str, str], body: bytes, token: str
) -> dict[str, str]:
    """The headers botocore makes of the request when it has the body itself."""
    request = AWSRequest(method, f"http://h.example:9000{path}{'?' + query if query else ''}", given_headers, body)
    auth = S3SigV4Auth(BotoCredentials(KEYS.access_key, KEYS.secret_key, token or None), "s3", "eu-west-1")
    auth.add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"]),
    st.text(min_size=1, max_size=30).filter(lambda text: text.encode(errors="ignore").decode() == text),
    queries.filter(lambda pairs: all(value.encode(errors="ignore").decode() == value for value in pairs.values())),
    headers,
    st.binary(max_size=50),
    st.sampled_from(["", "session-token"]),
)
@example("PUT", "a/../b//c d+e%41ü", {"prefix": "a b+c/&=", "uploads": ""}, {"x-amz-meta-a": "two  blanks"}, b"x", "t")
def test_every_signature_is_the_one_of_the_body(
    method: str, key: str, query: dict[str, str], given_headers: dict[str, str], body: bytes, token: str
) -> None:
    path, text = "/bucket/" + quote_key(key), quote_query(query)
    given_headers = {"host": "h.example:9000", **given_headers}
    with patch("botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(NOW_S, UTC)):
        signed = sign(
            Credentials(KEYS.access_key, KEYS.secret_key, token),
            "eu-west-1",
            method,
            f"http://h.example:9000{path}{'?' + text if text else ''}",
            given_headers,
            hashlib.sha256(body).hexdigest(),
        )
        assert signed == botocores(method, path, text, dict(given_headers), body, token)


def test_secrets_do_not_show() -> None:
    shown = repr(Credentials("AKID", "the secret", "the token"))
    assert "AKID" in shown
    assert "secret" not in shown.replace("secret_key", "")
    assert "the token" not in shown


@given(st.text(max_size=40).filter(lambda text: text.encode(errors="ignore").decode() == text))
def test_keys_are_quoted_as_s3_quotes_them(key: str) -> None:
    assert quote_key(key) == quote(key, safe="/-_.~")
