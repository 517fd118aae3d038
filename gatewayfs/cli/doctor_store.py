"""Is the bucket fit for a gateway: credentials, address, clock, access, and what the store honours.

The checks build on each other; the first that fails ends them. The last one writes two scratch objects below the
share's prefix and removes them (``s3.capabilities``). The values of credentials never appear, only where they were
found.
"""

import os
from collections.abc import AsyncIterator

import trio

from gatewayfs.cli.findings import Finding, fail, ok, warning
from gatewayfs.config import ShareConfig
from gatewayfs.daemon.storing import object_options, store_options
from gatewayfs.errors import (
    BadResponse,
    BucketNotFound,
    CredentialsRejected,
    StoreAccessDenied,
    StoreBusy,
    StoreError,
    StoreUnreachable,
    UserError,
)
from gatewayfs.runtime.clock import SystemClock
from gatewayfs.runtime.offload import Offload
from gatewayfs.s3.boto import resolve
from gatewayfs.s3.capabilities import probe
from gatewayfs.s3.client import HttpObjectStore
from gatewayfs.s3.store import Capabilities

ANSWER_S_MAX = 20.0
PROBE_S_MAX = 60.0
SKEW_S_WARNING = 60.0
SKEW_S_FAIL = 300.0
"""S3 refuses requests dated more than 15 minutes off; at five it is time to act."""
CONNECTIONS = 4


async def store_findings(config: ShareConfig, *, may_write: bool) -> AsyncIterator[Finding]:
    """Every check of the bucket, in order."""
    try:
        connection = resolve(config.share.bucket, store_options(config))
    except UserError as error:
        yield fail("credentials", error.message, error.cure)
        return
    yield ok("credentials", repr(connection.credentials).strip("<>"))
    store = HttpObjectStore(
        connection,
        Offload(CONNECTIONS),
        SystemClock(),
        connections_max=CONNECTIONS,
        options=object_options(config),
    )
    try:
        access = await _access(store, config)
        if store.clock_skew_s is not None:
            yield _clock(store.clock_skew_s)
        yield access
        if access.cure:
            return
        if may_write:
            for finding in await _honours(store, config):
                yield finding
    finally:
        store.close()


async def _access(store: HttpObjectStore, config: ShareConfig) -> Finding:
    where = f"{config.share.bucket} at {store.endpoint_url} (region {store.region})"
    try:
        with trio.fail_after(ANSWER_S_MAX):
            await store.check_bucket(config.share.prefix)
    except trio.TooSlowError:
        return fail("bucket", f"{where} did not answer in {ANSWER_S_MAX:g} s", "check the endpoint and the network")
    except StoreError as error:
        return fail("bucket", str(error), _access_cure(error, config))
    return ok("bucket", f"{where} answers and may be listed")


def _access_cure(error: StoreError, config: ShareConfig) -> str:
    by_kind: tuple[tuple[type[StoreError], str], ...] = (
        (CredentialsRejected, "check the keys, their expiry and this machine's clock"),
        (BucketNotFound, "check its name, the region and the endpoint, or create it"),
        (StoreAccessDenied, f"allow s3:ListBucket on {config.share.bucket} for these credentials"),
        (BadResponse, "something else than an S3 store answers there; check s3.endpoint_url and any proxy"),
        (StoreBusy, "the store is overloaded; try again later"),
        (StoreUnreachable, "check s3.endpoint_url, name resolution, firewall, proxy and certificates"),
    )
    return next((cure for kind, cure in by_kind if isinstance(error, kind)), "check s3.endpoint_url and s3.addressing")


def _clock(skew_s: float) -> Finding:
    text = f"{abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead of'} the store's"
    cure = "synchronise it (chrony or systemd-timesyncd)"
    if abs(skew_s) >= SKEW_S_FAIL:
        return fail("clock", text, cure)
    if abs(skew_s) >= SKEW_S_WARNING:
        return warning("clock", text, cure)
    return ok("clock", "agrees with the store's" if abs(skew_s) < 2 else text)


async def _honours(store: HttpObjectStore, config: ShareConfig) -> list[Finding]:
    token = f"doctor-{os.getpid()}-{SystemClock().time_ns():x}"
    try:
        with trio.fail_after(PROBE_S_MAX):
            found = await probe(store, config.share.prefix, token)
    except trio.TooSlowError:
        return [fail("write", f"trying took more than {PROBE_S_MAX:g} s", "check the network, try again")]
    except StoreError as error:
        return [fail("write", str(error), "check what the credentials may do with this bucket")]
    if not found.probed:
        cure = f"allow s3:PutObject, s3:GetObject and s3:DeleteObject on {config.share.bucket}/{config.share.prefix}*"
        return [fail("write", "these credentials may not write here", cure)]
    return [ok("write", "objects can be written and deleted"), *judged(found)]


def judged(found: Capabilities) -> list[Finding]:
    """What follows from what the store honours."""
    findings = []
    if found.put_if_match and found.put_if_none_match and found.complete_if_match:
        quoting = "" if found.quoted_if_match else " (etags without quotes)"
        findings.append(ok("conditional writes", f"honoured{quoting}: two writers never overwrite each other"))
    else:
        findings.append(
            warning(
                "conditional writes",
                "not all honoured: gatewayfs looks before it writes, which leaves a window of milliseconds in which "
                "another writer's version can be overwritten",
                "upgrade the store, or let only this gateway write to the prefix",
            )
        )
    if not found.part_copy:
        cure = "nothing to do; with a versioned bucket the old parts are still there"
        findings.append(warning("part copy", "missing: changing a part of a large file uploads all of it", cure))
    findings.append(ok("versioning", "the bucket keeps old versions" if found.versioning else "off"))
    return findings
