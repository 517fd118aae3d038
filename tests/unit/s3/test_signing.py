"""Our signatures against botocore's, byte for byte."""

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
from gatewayfs.s3.signing import EMPTY_SHA256, Credentials, Signer

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW_S = 1_795_444_948.75

values = st.from_regex(r"[!-~]{1,8}( {1,3}[!-~]{1,8}){0,3}", fullmatch=True) | st.just("grüße")
headers = st.dictionaries(st.from_regex(r"x-amz-meta-[a-z0-9._-]{1,12}", fullmatch=True), values, max_size=6)
queries = st.dictionaries(st.from_regex(r"[a-z-]{1,12}", fullmatch=True), st.text(max_size=12), max_size=4)


def botocores(
    method: str, path: str, query: str, given_headers: dict[str, str], body: bytes, token: str
) -> dict[str, str]:
    """The headers botocore's own signer makes of the same request at the same moment."""
    request = AWSRequest(method, f"http://h.example:9000{path}{'?' + query if query else ''}", given_headers, body)
    auth = S3SigV4Auth(BotoCredentials(KEYS.access_key, KEYS.secret_key, token or None), "s3", "eu-west-1")
    with patch("botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(NOW_S, UTC)):
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
def test_every_signature_is_botocores(
    method: str, key: str, query: dict[str, str], given_headers: dict[str, str], body: bytes, token: str
) -> None:
    path, text = "/bucket/" + quote_key(key), quote_query(query)
    given_headers = {"host": "h.example:9000", **given_headers}
    signed = Signer("eu-west-1").headers(
        Credentials(KEYS.access_key, KEYS.secret_key, token),
        NOW_S,
        method,
        path,
        text,
        given_headers,
        hashlib.sha256(body).hexdigest(),
    )
    assert signed == botocores(method, path, text, dict(given_headers), body, token)


def test_the_key_is_derived_anew_for_another_day_and_another_secret() -> None:
    signer = Signer("eu-west-1")

    def signature(keys: Credentials, now_s: float, with_signer: Signer) -> str:
        return with_signer.headers(keys, now_s, "GET", "/", "", {"host": "h"}, EMPTY_SHA256)["authorization"]

    others = Credentials(KEYS.access_key, "another secret")
    for keys, now_s in [(KEYS, NOW_S), (others, NOW_S), (KEYS, NOW_S + 86_400), (KEYS, NOW_S)]:
        assert signature(keys, now_s, signer) == signature(keys, now_s, Signer("eu-west-1"))
    assert signature(KEYS, NOW_S, signer) != signature(others, NOW_S, signer)


def test_secrets_do_not_show() -> None:
    shown = repr(Credentials("AKID", "the secret", "the token")) + repr(Signer("r"))
    assert "AKID" in shown
    assert "secret" not in shown.replace("secret_key", "")
    assert "the token" not in shown


@given(st.text(max_size=40).filter(lambda text: text.encode(errors="ignore").decode() == text))
def test_keys_are_quoted_as_s3_quotes_them(key: str) -> None:
    assert quote_key(key) == quote(key, safe="/-_.~")
