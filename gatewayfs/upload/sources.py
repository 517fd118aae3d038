"""No part from a wrong object: what makes a mixture of two objects impossible.

A delta upload lasts from the first UploadPartCopy to the CompleteMultipartUpload, perhaps across restarts, and somebody
else may replace the object it copies from at any moment in between. Three guards, each enough where it works:

* **Every copy names the etag** (x-amz-copy-source-if-match). AWS, MinIO and others refuse to copy from another object.
* **The completion names the etag** (If-Match), for an edit in place, where source and destination are one key. If the
  object was replaced meanwhile, the completion fails and nothing becomes visible.
* **A look before and after.** Ceph RGW (and moto) ignore the first header on parts; renamed files have their source at
  another key. There a HEAD before the first copy and one after the last must tell the same etag, time and version. A
  replacement in between shows as another etag; the same bytes put there again as a later time. What would
  slip through is somebody who replaces the object *and* puts back a byte-identical one, both within the second in
  which the first was written; of an edit in place even that needs the copy to fall between the two.

``UploadState.source`` says which object copied parts are from; of parts that are kept for a later try, those from
another object than the record names now are copied again.
"""

import msgspec

from gatewayfs.meta.schema import Remote, Source, UploadState
from gatewayfs.s3.store import ObjectInfo
from gatewayfs.upload import records
from gatewayfs.upload.context import Context
from gatewayfs.upload.looking import absorb

_replace = msgspec.structs.replace


async def pin_source(ctx: Context, ino: int, state: UploadState, remote: Remote) -> UploadState | None:
    """The upload, ready to have parts copied from ``remote``; None when that is another object by now and the records
    know it."""
    source = state.source
    if source is None or (source.key, source.etag) != (remote.key, remote.etag):
        source = Source(remote.key, remote.etag)
        parts = tuple(part for part in state.parts if not part.copied)
        state = _replace(state, source=source, parts=parts)
    if not ctx.capabilities.part_copy_source_if_match and not source.last_modified_ns:
        info = await ctx.look(remote.key)
        if info is None or info.etag != remote.etag:
            await absorb(ctx, ino, remote.key, info)
            return None
        source = _replace(source, last_modified_ns=info.last_modified_ns, version_id=info.version_id)
        # Parts copied before this look are from nobody knows what.
        state = _replace(state, source=source, parts=tuple(part for part in state.parts if not part.copied))
    records.save_upload(ctx.meta, ino, state)
    return state


async def source_unchanged(ctx: Context, ino: int, source: Source) -> bool:
    """Whether all that was copied is from one object. False: the records, or the parts to copy again, know."""
    if not source.last_modified_ns:
        return True
    info = await ctx.look(source.key)
    if info is not None and _identity(info) == (source.etag, source.last_modified_ns, source.version_id):
        return True
    state = ctx.meta.upload_state(ino)
    if state is not None and state.source == source:
        kept = tuple(part for part in state.parts if not part.copied)
        records.save_upload(ctx.meta, ino, _replace(state, parts=kept, source=None))
    if info is None or info.etag != source.etag:
        await absorb(ctx, ino, source.key, info)
    return False


def _identity(info: ObjectInfo) -> tuple[str, int, str]:
    return info.etag, info.last_modified_ns, info.version_id
