"""What becomes of both versions when the bucket changed behind our back.

``gatewayfs.conflict`` decides; here the decision is carried out, each in one transaction of the namespace. The rule
behind all of them: no byte that was written on either side may become unreachable, and no entry may get stuck. After
the transaction the ordinary plan knows what to do.
"""

import itertools
import logging
import stat

import msgspec

from gatewayfs.conflict import Policy, Verdict, judge
from gatewayfs.meta.env import Transaction
from gatewayfs.meta.schema import Doomed, Inode, Remote
from gatewayfs.objectrecords import attribute_fields, headers_record
from gatewayfs.s3.attributes import split_metadata
from gatewayfs.s3.store import COPY_BYTES_MAX, Condition, ObjectInfo
from gatewayfs.types import ETag, ObjectKey
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.copynames import copy_name, free_name, sibling
from gatewayfs.upload.plan import attributes_differ, content_differs

log = logging.getLogger(__name__)

FRAGMENT = "the object was replaced before all of it was here; the rest is zeros"

STALE = -1
"""A meta revision no record has: the object's metadata must be written again."""


async def base_changed(ctx: Context, ino: int, base: Remote, info: ObjectInfo | None) -> None:
    """The object ``base`` that ``ino`` was based on is now ``info``, or gone (None)."""
    inode = ctx.meta.require(ino)
    verdict = _judged(ctx, inode, base, info)
    if verdict is Verdict.FRAGMENT:
        # Only the bytes written here still exist; the others were replaced in the bucket and can never be read again.
        await ctx.cache.fill_absent(ino)
        _report(ctx, "fragment", base.key, FRAGMENT)
        ctx.lost(ino, f"{base.key}: {FRAGMENT}")
        inode = ctx.meta.require(ino)
        verdict = _judged(ctx, inode, base, info)
    if inode.remote != base:
        return
    log.warning("object %s was %s by others: %s", base.key, "deleted" if info is None else "changed", verdict.value)
    if verdict is Verdict.KEEP_BOTH:
        assert info is not None
        await _keep_both(ctx, ino, base.key, info)
        return
    if info is None:
        _deleted_by_others(ctx, inode, base, verdict)
    else:
        _changed_by_others(ctx, inode, base.key, info, verdict)
    _report(ctx, "conflict", base.key, verdict.value)


def _judged(ctx: Context, inode: Inode, base: Remote, info: ObjectInfo | None) -> Verdict:
    regular = inode.is_regular
    return judge(
        there=info is not None,
        moved=records.wanted_key(ctx.meta, inode) != base.key,
        content_changed=regular and content_differs(inode),
        attributes_changed=attributes_differ(inode),
        resident=ctx.cache.is_resident(inode) if regular else not inode.is_symlink or inode.target is not None,
        policy=ctx.settings.conflict_policy,
    )


def _deleted_by_others(ctx: Context, inode: Inode, base: Remote, verdict: Verdict) -> None:
    now_ns = ctx.clock.time_ns()
    with ctx.meta.transaction() as tx:
        vanished = verdict is Verdict.VANISHED
        if vanished and not inode.is_directory:
            _remove(ctx, tx, inode, now_ns)
        else:
            tx.put(msgspec.structs.replace(inode, remote=None, dirty_since_ns=inode.dirty_since_ns or now_ns))
        ctx.hooks.news.conflicted(tx, base.key, verdict.word, kept_by="bucket" if vanished else "gateway")
    if vanished:
        ctx.hooks.kernel.invalidate_entry(inode.parent, inode.name, deleted=inode.ino)
        ctx.lost(inode.ino, f"{base.key} was deleted in the bucket by others, and no copy of it is here")
        log.warning("%s was deleted in the bucket and no copy of it is here", base.key)


def _remove(ctx: Context, tx: Transaction, inode: Inode, now_ns: int) -> None:
    gone = msgspec.structs.replace(inode, remote=None)
    tx.put(gone)
    in_use = ctx.cache.open_count(inode.ino) > 0
    records.release(tx, gone if in_use else ctx.cache.forget(tx, gone), now_ns, in_use=in_use, reads=False)


def _changed_by_others(ctx: Context, inode: Inode, key: str, info: ObjectInfo, verdict: Verdict) -> None:
    now_ns = ctx.clock.time_ns()
    with ctx.meta.transaction() as tx:
        ours = records.wanted_key(tx, inode) if verdict is Verdict.LEAVE_THEIRS else None
        ctx.hooks.news.conflicted(tx, key, verdict.word, kept_by="bucket", copy_key=ours)
        if verdict is Verdict.LEAVE_THEIRS:
            tx.put(msgspec.structs.replace(inode, remote=None, dirty_since_ns=inode.dirty_since_ns or now_ns))
            return
        theirs = attribute_fields(info, ctx.settings.defaults)
        if stat.S_IFMT(theirs["mode"]) != stat.S_IFMT(inode.mode):
            # Another type of file under the same number would confuse every kernel: ours goes, theirs comes.
            parent, name = inode.parent, inode.name
            _remove(ctx, tx, inode, now_ns)
            tx.put(_their_inode(ctx, tx, parent, name, info))
        else:
            keep = verdict is Verdict.KEEP_OUR_ATTRIBUTES
            tx.put(_follow(ctx, tx, inode, info, {} if keep else theirs, now_ns))
    if verdict is Verdict.TAKE_THEIRS:
        ctx.lost(inode.ino, f"{key} was changed in the bucket by others: {verdict.value}")
    ctx.hooks.kernel.invalidate_inode(inode.ino, False)
    ctx.hooks.kernel.invalidate_entry(inode.parent, inode.name)


def _follow(
    ctx: Context, tx: Transaction, inode: Inode, info: ObjectInfo, attributes: dict[str, int], now_ns: int
) -> Inode:
    """The record with their bytes; with our attributes where ``attributes`` is empty."""
    if inode.is_regular:
        inode = ctx.cache.rebase(tx, inode)
    content = inode.content_revision + 1
    remote = remote_from(info, content, inode.meta_revision if attributes else STALE)
    if inode.is_directory:
        remote = msgspec.structs.replace(remote, marker_mtime_ns=attributes.get("mtime_ns"))
    inode = msgspec.structs.replace(
        inode,
        **attributes,
        size=0 if inode.is_directory else info.size,
        content_revision=content,
        ctime_ns=now_ns,
        target=None if inode.is_symlink else inode.target,
        foreign=split_metadata(info.metadata)[1] if attributes else inode.foreign,
        headers=headers_record(info.headers),
        attributes_known=True,
        remote=remote,
    )
    return records.marked(tx, inode, now_ns)


async def name_taken(ctx: Context, ino: int, key: str, info: ObjectInfo) -> None:
    """Where ``ino`` wants to be lies an object that nobody here knew of."""
    inode = ctx.meta.require(ino)
    if records.wanted_key(ctx.meta, inode) != key:
        return  # it was renamed while we looked
    if not inode.is_directory:
        await _keep_both(ctx, ino, key, info)
        return
    # Two directories of one name are one directory: only the marker's attributes can be in conflict.
    now_ns = ctx.clock.time_ns()
    with ctx.meta.transaction() as tx:
        records.release_key(tx, key, ino)
        if inode.remote is not None and inode.remote.key != key:
            old = inode.remote
            tx.doom(Doomed(old.key, old.etag, now_ns, version_id=old.version_id))
            ctx.notice(old.key)
        attributes = (
            {} if ctx.settings.conflict_policy is Policy.GATEWAY_WINS else attribute_fields(info, ctx.settings.defaults)
        )
        tx.put(_follow(ctx, tx, inode, info, attributes, now_ns))
    ctx.hooks.kernel.invalidate_inode(ino, True)


async def _keep_both(ctx: Context, ino: int, key: str, info: ObjectInfo) -> None:
    # What one request cannot copy keeps its name.
    if ctx.settings.conflict_policy is Policy.GATEWAY_WINS and info.size <= COPY_BYTES_MAX:
        await _move_theirs(ctx, ino, key, info)
    else:
        _move_ours(ctx, ino, key, info)


def _move_ours(ctx: Context, ino: int, key: str, info: ObjectInfo) -> None:
    """The bucket's version gets the name; ours is renamed beside it and goes up under its new name."""
    now_ns = ctx.clock.time_ns()
    inode = ctx.meta.require(ino)
    if records.wanted_key(ctx.meta, inode) != key:
        return
    name = free_name(ctx, inode, key, now_ns)
    with ctx.meta.transaction() as tx:
        records.release_key(tx, key, ino)
        elsewhere = inode.remote if inode.remote is not None and inode.remote.key != key else None
        ours = msgspec.structs.replace(inode, name=name, remote=elsewhere, ctime_ns=now_ns)
        tx.put(msgspec.structs.replace(ours, dirty_since_ns=inode.dirty_since_ns or now_ns))
        tx.put(_their_inode(ctx, tx, inode.parent, inode.name, info))
        ctx.hooks.news.conflicted(tx, key, Verdict.KEEP_BOTH.word, kept_by="bucket", copy_key=sibling(key, name))
    ctx.hooks.kernel.invalidate_entry(inode.parent, inode.name)
    ctx.hooks.kernel.invalidate_entry(inode.parent, name)
    log.warning("conflict at %s: the bucket's version keeps the name, ours is now %r", key, name)
    _report(ctx, "conflict", key, "bucket-wins", other=sibling(key, name))
    ctx.lost(ino, f"{key} was changed by others, whose version keeps the name; ours is now {sibling(key, name)}")
    ctx.notice(ino)


async def _move_theirs(ctx: Context, ino: int, key: str, info: ObjectInfo) -> None:
    """The bucket's version is copied to a conflict name and shown there; ours may then replace it."""
    now_ns = ctx.clock.time_ns()
    # Named after the time of their write: a copy whose answer was lost is found under the same name the next time.
    name, copy = await _copied_aside(ctx, ctx.meta.require(ino), key, info)
    inode = ctx.meta.require(ino)
    if records.wanted_key(ctx.meta, inode) != key or ctx.meta.lookup(inode.parent, name) is not None:
        return
    with ctx.meta.transaction() as tx:
        records.release_key(tx, key, ino)
        tx.put(msgspec.structs.replace(_their_inode(ctx, tx, inode.parent, name, info), remote=copy))
        elsewhere = inode.remote if inode.remote is not None and inode.remote.key != key else None
        tx.put(msgspec.structs.replace(inode, remote=elsewhere, dirty_since_ns=inode.dirty_since_ns or now_ns))
        tx.doom(Doomed(key, info.etag, now_ns, version_id=info.version_id))
        ctx.hooks.news.conflicted(tx, key, Verdict.KEEP_BOTH.word, kept_by="gateway", copy_key=copy.key)
    ctx.hooks.kernel.invalidate_entry(inode.parent, name)
    log.warning("conflict at %s: our version keeps the name, the bucket's is now %r", key, name)
    _report(ctx, "conflict", key, "gateway-wins", other=copy.key)
    ctx.notice(ino)
    ctx.notice(key)


async def _copied_aside(ctx: Context, inode: Inode, key: str, info: ObjectInfo) -> tuple[bytes, Remote]:
    """Copy their object beside itself; returns its name there and its record."""
    for attempt in itertools.count():
        name = copy_name(ctx, inode, key, info.last_modified_ns, attempt)
        moved_key = ObjectKey(sibling(key, name))
        if ctx.meta.lookup(inode.parent, name) is not None or ctx.meta.holder(moved_key) is not None:
            continue
        there = await ctx.look(moved_key)
        if there is not None:
            if there.size == info.size and (there.etag == info.etag or "-" in info.etag):
                return name, remote_from(there, 0, 0)
            continue
        condition = Condition(absent=ctx.capabilities.copy_if_match)
        made = await ctx.call(
            ctx.store.copy(
                ObjectKey(key), moved_key, source_etag=ETag(info.etag), headers=info.headers, condition=condition
            )
        )
        copy = msgspec.structs.replace(remote_from(info, 0, 0), key=moved_key, etag=made.etag)
        return name, msgspec.structs.replace(copy, last_modified_ns=0, version_id=made.version_id)
    raise AssertionError("itertools.count ended")


def _their_inode(ctx: Context, tx: Transaction, parent: int, name: bytes, info: ObjectInfo) -> Inode:
    """A new inode for the bucket's version."""
    attributes = attribute_fields(info, ctx.settings.defaults)
    return Inode(
        ino=tx.new_ino(),
        parent=parent,
        name=name,
        mode=attributes["mode"],
        uid=attributes["uid"],
        gid=attributes["gid"],
        rdev=attributes["rdev"],
        size=info.size,
        atime_ns=attributes["atime_ns"],
        mtime_ns=attributes["mtime_ns"],
        ctime_ns=info.last_modified_ns,
        btime_ns=attributes["btime_ns"],
        content_revision=0,
        meta_revision=0,
        remote=remote_from(info, 0, 0),
        foreign=split_metadata(info.metadata)[1],
        headers=headers_record(info.headers),
    )


def remote_from(info: ObjectInfo, content_revision: int, meta_revision: int) -> Remote:
    """A record of the object ``info`` describes."""
    return Remote(
        key=info.key,
        etag=info.etag,
        size=info.size,
        last_modified_ns=info.last_modified_ns,
        content_revision=content_revision,
        meta_revision=meta_revision,
        version_id=info.version_id,
        storage_class=info.storage_class,
    )


def _report(ctx: Context, event: str, key: str, what: str, **more: str) -> None:
    if event == "conflict":
        ctx.counters.conflicts += 1
        ctx.counters.last_conflict = key
    ctx.hooks.event({"event": event, "key": key, "what": what, "at_ns": ctx.clock.time_ns(), **more})
