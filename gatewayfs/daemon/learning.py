"""What the store honours: probed at the first mount of a bucket, remembered, and asked again by another version.

A later program may want to know what an earlier one did not ask, or ask better. It asks once, before it serves, and
starts with what is known when the bucket does not answer; the next start tries again.
"""

import logging
from dataclasses import asdict, fields

import msgspec
import trio

from gatewayfs._version import __version__
from gatewayfs.errors import StoreError
from gatewayfs.meta.env import MetaStore
from gatewayfs.runtime.randomness import generator
from gatewayfs.s3.capabilities import ProbedStore, probe, probe_reading
from gatewayfs.s3.store import Capabilities

log = logging.getLogger(__name__)

CAPABILITIES = "capabilities"
"""Setting: the answers, and under ``PROGRAM`` the version that asked."""

PROGRAM = "program"

RENEWAL_S_MAX = 10.0
"""A start does not wait longer for what it can do without. The probe takes about thirty requests."""


def stored_capabilities(meta: MetaStore) -> Capabilities:
    """What an earlier probe found; the cautious default before the first."""
    raw = meta.setting(CAPABILITIES)
    return msgspec.json.decode(raw, type=Capabilities) if raw else Capabilities()


async def learn_capabilities(meta: MetaStore, store: ProbedStore, prefix: str, *, read_only: bool = False) -> None:
    """Probe what the store honours, and remember it. Raises StoreError.

    A bucket we may not write tells little: what was known stays, and is not asked again by this version.

    Args:
        read_only: write nothing to find out.
    """
    known = stored_capabilities(meta)
    if read_only:
        found = await probe_reading(store, prefix)
    else:
        found = await probe(store, prefix, f"{generator().getrandbits(48):012x}")
    kept = known if known.probed and not found.probed else found
    with meta.transaction() as tx:
        tx.put_setting(CAPABILITIES, msgspec.json.encode({**asdict(kept), PROGRAM: __version__}))
    log.info("the store honours: %s", kept)


async def renew_capabilities(meta: MetaStore, store: ProbedStore, prefix: str) -> None:
    """Probe again if another version asked last, or not for everything. Whatever goes wrong, what is known stays."""
    if not _outdated(meta):
        return
    try:
        with trio.move_on_after(RENEWAL_S_MAX) as limit:
            await learn_capabilities(meta, store, prefix)
    except StoreError as problem:
        log.warning("could not ask again what the store honours, the next start will: %s", problem)
    if limit.cancelled_caught:
        log.warning("the store did not say within %g s what it honours, the next start asks again", RENEWAL_S_MAX)


def _outdated(meta: MetaStore) -> bool:
    known = msgspec.json.decode(meta.setting(CAPABILITIES) or b"{}", type=dict[str, object])
    asked = {field.name for field in fields(Capabilities)}
    return known.get(PROGRAM) != __version__ or not asked <= known.keys()
