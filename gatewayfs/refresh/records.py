"""Inode records made of what the bucket says. Pure.

A LIST knows size, etag and time of an object; mode, owner and exact times are the share's defaults until a HEAD tells
(``attributes_known``). ``ctime`` of something found is the time the bucket says it changed; of something that changed
behind us, now: NFS clients take a moved ctime as the sign to forget what they cached.
"""

import stat

import msgspec

from gatewayfs.meta.schema import Directory, Inode, Remote
from gatewayfs.objectrecords import attribute_fields, headers_record, link_text
from gatewayfs.refresh.diff import storage_class
from gatewayfs.s3.attributes import ShareDefaults, split_metadata
from gatewayfs.s3.store import ListedObject, ObjectInfo

replace = msgspec.structs.replace


def remote_of(found: ListedObject | ObjectInfo, inode: Inode | None) -> Remote:
    """What LIST or HEAD says of an object, as the state that ``inode`` (None: a new one) equals."""
    known = inode.remote if inode is not None else None
    return Remote(
        key=found.key,
        etag=found.etag,
        size=found.size,
        last_modified_ns=found.last_modified_ns,
        content_revision=inode.content_revision if inode else 0,
        meta_revision=inode.meta_revision if inode else 0,
        version_id=found.version_id if isinstance(found, ObjectInfo) else "",
        storage_class=storage_class(found.storage_class),
        marker_mtime_ns=known.marker_mtime_ns if known is not None and known.key == found.key else None,
    )


def new_file(
    ino: int, parent: int, name: bytes, row: ListedObject, defaults: ShareDefaults, dirty_since_ns: int
) -> Inode:
    """A file found in the bucket. ``dirty_since_ns`` != 0: its directory was renamed, so it must move."""
    when = row.last_modified_ns
    return Inode(
        ino=ino,
        parent=parent,
        name=name,
        mode=stat.S_IFREG | defaults.file_mode,
        uid=defaults.uid,
        gid=defaults.gid,
        size=row.size,
        atime_ns=when,
        mtime_ns=when,
        ctime_ns=when,
        btime_ns=when,
        content_revision=0,
        meta_revision=0,
        attributes_known=False,
        dirty_since_ns=dirty_since_ns,
        remote=remote_of(row, None),
    )


def new_directory(
    ino: int, parent: int, name: bytes, prefix: str, defaults: ShareDefaults, now_ns: int, *, moving: bool
) -> Inode:
    """A directory found as a common prefix; whether it has a marker is not known yet.

    ``moving``: its parent was renamed, so everything below must move.
    """
    return Inode(
        ino=ino,
        parent=parent,
        name=name,
        mode=stat.S_IFDIR | defaults.directory_mode,
        uid=defaults.uid,
        gid=defaults.gid,
        size=0,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        btime_ns=now_ns,
        content_revision=0,
        meta_revision=0,
        attributes_known=False,
        dirty_since_ns=now_ns if moving else 0,
        directory=Directory(source=prefix, children_unsettled=moving),
    )


def learnt(inode: Inode, row: ListedObject) -> Inode:
    """The record with the facts a LIST adds to a known object."""
    assert inode.remote is not None
    known = replace(
        inode.remote,
        etag=row.etag,
        last_modified_ns=row.last_modified_ns,
        storage_class=storage_class(row.storage_class),
    )
    return replace(inode, remote=known)


def touched(inode: Inode, row: ListedObject | ObjectInfo, now_ns: int) -> Inode:
    """The record after somebody changed the object's metadata, perhaps: the bytes stay, attributes are asked anew."""
    return replace(inode, remote=remote_of(row, inode), attributes_known=False, ctime_ns=now_ns)


def replaced(inode: Inode, found: ListedObject | ObjectInfo, now_ns: int) -> Inode:
    """The record of a clean file after somebody put other bytes at its key. The cached bytes are the caller's part."""
    renewed = replace(inode, content_revision=inode.content_revision + 1)
    return replace(
        renewed,
        size=found.size,
        mtime_ns=found.last_modified_ns,
        ctime_ns=now_ns,
        attributes_known=False,
        target=None,
        remote=remote_of(found, renewed),
    )


def with_marker(inode: Inode, found: ListedObject | ObjectInfo) -> Inode:
    """The record of a directory whose marker object was found."""
    assert inode.directory is not None
    return replace(
        inode,
        remote=remote_of(found, inode),
        directory=replace(inode.directory, marker_wanted=True),
        attributes_known=False,
    )


def without_marker(inode: Inode) -> Inode:
    """The record of a clean directory that has no marker (any more): it exists because keys below it do."""
    assert inode.directory is not None
    implicit = replace(inode.directory, marker_wanted=False)
    return replace(inode, remote=None, directory=implicit, attributes_known=True)


def with_attributes(inode: Inode, info: ObjectInfo, defaults: ShareDefaults) -> Inode:
    """The record with everything a HEAD says of mode, owner, times and other metadata."""
    told = attribute_fields(info, defaults)
    _, foreign = split_metadata(info.metadata)
    known = replace(
        inode,
        **told | {"btime_ns": told["btime_ns"] or inode.btime_ns},
        foreign=foreign or None,
        headers=headers_record(info.headers),
        attributes_known=True,
    )
    if not known.is_symlink:
        known = replace(known, target=None)
    elif info.size == 0 and (target := link_text(info, b"")):
        known = replace(known, target=target, size=len(target))
    if inode.is_directory and inode.remote is not None:
        if told["mtime_ns"] == inode.remote.marker_mtime_ns:
            # Nobody set it since: what moved the times here were the directory's own entries.
            known = replace(known, mtime_ns=inode.mtime_ns, atime_ns=inode.atime_ns)
        known = replace(known, remote=replace(inode.remote, marker_mtime_ns=told["mtime_ns"]))
    return known
