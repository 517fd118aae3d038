"""What boto3 knows and we should not reinvent: whose credentials, which region, which address.

``resolve`` asks botocore once, without any network traffic, and returns a
``Connection`` for the hot-path client: profiles, environment, instance roles, SSO, endpoint variables, proxies and CA
bundles mean here what they mean to every other program that uses AWS's SDK.
"""

import base64
import io
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import botocore.session
from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import DEFAULT_CA_BUNDLE
from botocore.utils import get_environ_proxies

from gatewayfs.errors import CredentialsRejected, StoreUnreachable, UserError
from gatewayfs.logs import hide
from gatewayfs.s3.http import Endpoint, Proxy
from gatewayfs.s3.requests import Connection
from gatewayfs.s3.signing import Credentials

REGION_DEFAULT = "us-east-1"
"""What stores other than AWS expect when nobody says anything, and boto3's own default for S3."""

Addressing = Literal["auto", "path", "virtual"]


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What the configuration says about reaching the bucket; "" leaves it to boto3's rules."""

    endpoint_url: str = ""
    region: str = ""
    profile: str = ""
    credentials_file: str = ""
    addressing: Addressing = "auto"
    ca_bundle: str = ""
    proxy: str = ""
    dual_stack: bool = False


def resolve(bucket: str, options: StoreOptions = StoreOptions()) -> Connection:
    """Find out how ``bucket`` is reached. No network traffic, except where the credential chain needs it.

    Raises UserError: no credentials, an unknown profile, a broken endpoint or CA bundle.
    """
    try:
        session = _session(options)
        url, region = _address(session, bucket, options)
        credentials = _credentials(session, options)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise UserError(f"cannot tell how to reach bucket {bucket}: {error}", "check the s3 options") from error
    if credentials is None:
        raise UserError(
            f"no credentials for bucket {bucket}",
            f"write them into {options.credentials_file}, section [{options.profile or 'default'}]"
            if options.credentials_file
            else "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, s3.profile or s3.credentials_file",
        )
    return Connection(bucket, _endpoint(session, url, options), region, _Credentials(credentials))


def session_for(options: StoreOptions, profile: str) -> tuple[Any, dict[str, str]]:
    """A botocore session for another service of the same account, and the credentials to make its clients with.

    Args:
        profile: instead of the bucket's, or "".

    Raises UserError: no credentials. BotoCoreError: an unknown profile.
    """
    options = replace(options, profile=profile or options.profile)
    session = _session(options)
    credentials = _credentials(session, options)
    if credentials is None:
        raise UserError(
            "no credentials for the queue", "set refresh.events_profile, or those of the bucket, which are used else"
        )
    if not options.credentials_file:
        return session, {}  # the session asks its own chain, and renews what expires
    frozen = credentials.get_frozen_credentials()
    hide(frozen.secret_key)
    keys = {"aws_access_key_id": frozen.access_key, "aws_secret_access_key": frozen.secret_key}
    return session, keys | ({"aws_session_token": frozen.token} if frozen.token else {})


def _session(options: StoreOptions) -> Any:
    session = botocore.session.Session(profile=options.profile or None)
    if options.credentials_file:
        session.set_config_variable("credentials_file", options.credentials_file)
    return session


class _Credentials:
    """botocore's credentials, refreshed by botocore when they are about to expire. Called in worker threads."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def __repr__(self) -> str:
        return f"<credentials from {self._credentials.method}>"

    def __call__(self) -> Credentials:
        try:
            frozen = self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise StoreUnreachable(f"cannot refresh the credentials: {error}") from error
        if not frozen.access_key or not frozen.secret_key:
            raise CredentialsRejected("the credentials are incomplete")
        hide(frozen.secret_key)
        hide(frozen.token or "")
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")


def _credentials(session: Any, options: StoreOptions) -> Any:
    if not options.credentials_file:
        return session.get_credentials()
    # Named in the configuration, the file is meant, whatever else lies about in the environment.
    return session.get_component("credential_provider").get_provider("shared-credentials-file").load()


class _NoBody(io.BytesIO):
    """The body of an answer that nobody sent."""

    def stream(self) -> Iterator[bytes]:
        yield from ()


def _address(session: Any, bucket: str, options: StoreOptions) -> tuple[str, str]:
    """Return (the bucket's URL, region): where botocore would send a HeadBucket, stopped before it leaves.

    A presigned URL would be simpler, but those go to AWS's global endpoint for historical reasons.
    """
    config = Config(
        signature_version=UNSIGNED,
        use_dualstack_endpoint=options.dual_stack or None,
        s3={"addressing_style": options.addressing, "us_east_1_regional_endpoint": "regional"},
    )
    seen: list[str] = []

    def catch(request: Any, **_: object) -> AWSResponse:
        seen.append(request.url)
        return AWSResponse(request.url, 200, HTTPHeaders(), _NoBody())

    client = session.create_client(
        "s3",
        region_name=options.region or session.get_config_variable("region") or REGION_DEFAULT,
        endpoint_url=options.endpoint_url or None,
        config=config,
    )
    try:
        client.meta.events.register("before-send.s3.HeadBucket", catch)
        client.head_bucket(Bucket=bucket)
        return seen[0], str(client.meta.region_name)
    finally:
        client.close()


def _endpoint(session: Any, url: str, options: StoreOptions) -> Endpoint:
    parts = urlsplit(url)
    if parts.hostname is None or parts.scheme not in ("http", "https"):
        raise UserError(f"not an endpoint: {url}", "write s3.endpoint_url as https://host or http://host:port")
    tls = _tls(session, options) if parts.scheme == "https" else None
    path = parts.path if parts.path.endswith("/") else parts.path + "/"
    port = parts.port or (443 if tls is not None else 80)
    return Endpoint(parts.hostname, port, path, tls, _proxy(url, parts.scheme, options.proxy))


def _tls(session: Any, options: StoreOptions) -> ssl.SSLContext:
    bundle = options.ca_bundle or session.get_config_variable("ca_bundle")
    try:
        if bundle:
            return ssl.create_default_context(cafile=bundle)
        # The machine's own authorities, and botocore's where the machine has none installed.
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=DEFAULT_CA_BUNDLE)
    except OSError as error:
        raise UserError(f"cannot read the certificate authorities in {bundle or DEFAULT_CA_BUNDLE}: {error}") from error
    return context


def _proxy(url: str, scheme: str, configured: str) -> Proxy | None:
    found = configured or get_environ_proxies(url).get(scheme)
    if not found:
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if parts.scheme != "http" or parts.hostname is None:
        raise UserError(f"cannot use the proxy {parts.hostname or found}", "only http:// proxies are supported")
    authorization = ""
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, parts.port or 80, authorization)
