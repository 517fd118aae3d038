"""Credentials, region and address come out as the AWS SDK means them, without any network traffic."""

import ssl
from pathlib import Path

import pytest

from gatewayfs.errors import UserError
from gatewayfs.s3.boto import StoreOptions, resolve


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_CA_BUNDLE",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def test_aws_is_addressed_by_virtual_host_in_its_region() -> None:
    connection = resolve("my-bucket", StoreOptions(region="eu-central-1"))
    endpoint = connection.endpoint
    assert (endpoint.url, endpoint.base_path) == ("https://my-bucket.s3.eu-central-1.amazonaws.com", "/")
    assert connection.region == "eu-central-1"
    assert endpoint.tls is not None
    assert endpoint.tls.verify_mode is ssl.CERT_REQUIRED
    assert endpoint.tls.check_hostname


def test_a_bucket_with_dots_is_addressed_by_path() -> None:
    """Its virtual host would not match the certificate."""
    endpoint = resolve("my.bucket", StoreOptions(region="eu-central-1")).endpoint
    assert (endpoint.url, endpoint.base_path) == ("https://s3.eu-central-1.amazonaws.com", "/my.bucket/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://localhost:9000", "http://localhost:9000"),
        ("https://s3.example.com", "https://s3.example.com"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_other_stores_are_addressed_by_path(url: str, expected: str) -> None:
    connection = resolve("bucket", StoreOptions(endpoint_url=url))
    assert (connection.endpoint.url, connection.endpoint.base_path) == (expected, "/bucket/")
    assert connection.region == "us-east-1"


def test_an_endpoint_below_a_path_keeps_it() -> None:
    endpoint = resolve("bucket", StoreOptions(endpoint_url="https://example.com/s3")).endpoint
    assert (endpoint.url, endpoint.base_path) == ("https://example.com", "/s3/bucket/")


def test_addressing_can_be_forced() -> None:
    virtual = resolve("bucket", StoreOptions(endpoint_url="https://s3.example.com", addressing="virtual")).endpoint
    assert (virtual.url, virtual.base_path) == ("https://bucket.s3.example.com", "/")
    path = resolve("bucket", StoreOptions(region="eu-west-1", addressing="path")).endpoint
    assert (path.url, path.base_path) == ("https://s3.eu-west-1.amazonaws.com", "/bucket/")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_environments_endpoint_is_honoured(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9000")
    assert resolve("bucket").endpoint.url == "http://127.0.0.1:9000"


def test_the_environments_credentials_are_used_and_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-token")
    connection = resolve("bucket")
    credentials = connection.credentials()
    assert (credentials.access_key, credentials.secret_key, credentials.token) == ("AKID", "the-secret", "the-token")
    assert "the-secret" not in repr(connection) + repr(credentials)
    assert "the-token" not in repr(connection) + repr(credentials)


def test_a_credentials_file_and_profile_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "keys"
    file.write_text(
        "[default]\naws_access_key_id=A\naws_secret_access_key=B\n[other]\naws_access_key_id=C\naws_secret_access_key=D\n"
    )
    assert resolve("bucket", StoreOptions(credentials_file=str(file))).credentials().access_key == "A"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert resolve("bucket", StoreOptions(profile="other")).credentials().access_key == "C"


def test_a_given_credentials_file_wins_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("[default]\naws_access_key_id=FILE\naws_secret_access_key=B\n")
    assert resolve("bucket", StoreOptions(credentials_file=str(file))).credentials().access_key == "FILE"


def test_no_credentials_is_the_users_mistake_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError) as caught:
        resolve("bucket")
    assert "AWS_ACCESS_KEY_ID" in caught.value.cure


@pytest.mark.parametrize(
    "options",
    [
        StoreOptions(profile="nobody"),
        StoreOptions(endpoint_url="no url"),
        StoreOptions(endpoint_url="ftp://example.com"),
        StoreOptions(ca_bundle="/nowhere/ca.pem"),
    ],
)
def test_what_cannot_be_is_the_users_mistake(options: StoreOptions) -> None:
    with pytest.raises(UserError):
        resolve("bucket", options)


def test_a_ca_bundle_replaces_the_machines_authorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("not a certificate")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(UserError, match=r"ca\.pem"):
        resolve("bucket", StoreOptions(region="eu-west-1"))


def test_a_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:p%40ss@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    proxy = resolve("bucket", StoreOptions(region="eu-west-1")).endpoint.proxy
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.authorization) == ("proxy.example", 3128, "Basic dXNlcjpwQHNz")
    assert "Basic" not in repr(proxy)
    assert resolve("bucket", StoreOptions(endpoint_url="https://127.0.0.1:9000")).endpoint.proxy is None


def test_a_configured_proxy_comes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:word@env.example:3128")
    from_environment = resolve("bucket", StoreOptions()).endpoint.proxy
    configured = resolve("bucket", StoreOptions(proxy="http://own.example:8080")).endpoint.proxy
    assert from_environment is not None
    assert configured is not None
    assert (from_environment.url, from_environment.authorization) == ("http://env.example:3128", "Basic dXNlcjp3b3Jk")
    assert (configured.url, configured.authorization) == ("http://own.example:8080", "")


def test_dual_stack_is_another_address() -> None:
    endpoint = resolve("bucket", StoreOptions(region="eu-central-1", dual_stack=True)).endpoint
    assert endpoint.host == "bucket.s3.dualstack.eu-central-1.amazonaws.com"
