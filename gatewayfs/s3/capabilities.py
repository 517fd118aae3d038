"""What this store honours: asked once per bucket, with two scratch objects, because documentation cannot be trusted.

Stores differ most in conditions. One that ignores If-Match overwrites other people's work with a friendly 200, one
(Ceph 16) refuses the right etag when it has quotes. So every condition is shown a wrong etag, which must be refused,
and where all uploads depend on it also the right one, which must be accepted.

The scratch objects lie below the share's prefix, where we may write if anywhere, and go away whatever happens, in a
versioned bucket with all their versions.
"""

import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol, TypeVar

import trio

from gatewayfs.errors import (
    BadResponse,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    StoreAccessDenied,
    StoreError,
)
from gatewayfs.s3.store import Capabilities, Condition, Deletion, InlineBody, ObjectStore
from gatewayfs.types import ETag, ObjectKey

log = logging.getLogger(__name__)
T = TypeVar("T")

PROBE_NAME = ".gatewayfs-probe-"
CLEANUP_S_MAX = 30.0
WRONG = ETag("0" * 32)
TAGGING = "gatewayfs=probe"
FIRST = InlineBody(b"gatewayfs asks what this store honours\n")
SECOND = InlineBody(b"gatewayfs asks again\n")


class ProbedStore(ObjectStore, Protocol):
    """A store that can be asked: its requests follow its ``capabilities``, and it can do what only the probe needs."""

    capabilities: Capabilities

    async def purge(self, key: ObjectKey) -> None:
        """Delete every version and delete marker of ``key``."""
        ...

    async def put_with(self, key: ObjectKey, data: bytes, headers: Mapping[str, str]) -> None:
        """Write a small object with just these headers."""
        ...

    async def grants(self, key: ObjectKey) -> dict[str, str]:
        """Return the object's ACL as headers, {} for the default."""
        ...

    async def tagging(self, key: ObjectKey) -> str:
        """Return the object's tags, form-encoded."""
        ...


class _Answer(Enum):
    DONE = "done"
    REFUSED = "refused"  # the condition did its work
    UNSUPPORTED = "unsupported"


async def probe(store: ProbedStore, prefix: str, token: str) -> Capabilities:
    """Find out what ``store`` honours, and leave the result in ``store.capabilities`` too.

    Args:
        prefix: the share's prefix, "" or ending with "/".
        token: makes the scratch keys unique; some random letters.

    A bucket we may not write to yields ``probed=False``. Raises StoreError: the store does not answer properly now.
    """
    session = _Probe(store, ObjectKey(f"{prefix}{PROBE_NAME}{token}"))
    try:
        return await session.run()
    except StoreAccessDenied:
        store.capabilities = Capabilities()
        return store.capabilities
    finally:
        with trio.move_on_after(CLEANUP_S_MAX, shield=True):
            await session.clean_up()


async def probe_reading(store: ProbedStore, prefix: str) -> Capabilities:
    """The little that a bucket tells which nothing shall be written to: how etags are compared.

    Leaves the result in ``store.capabilities`` too; ``probed`` stays False. Raises StoreError.
    """
    store.capabilities = Capabilities()
    page = await store.list_page(prefix, delimiter=False, max_keys=1)
    for found in page.objects:
        try:
            await store.get(found.key, 0, 1, if_match=found.etag)
        except PreconditionFailed:
            store.capabilities = Capabilities(quoted_if_match=False)
        except (ObjectArchived, ObjectNotFound, StoreAccessDenied):
            continue  # not an object to learn from
    return store.capabilities


@dataclass(slots=True)
class _Probe:
    store: ProbedStore
    key: ObjectKey
    etag: ETag = WRONG
    uploads: list[tuple[ObjectKey, str]] = field(default_factory=list)
    written: bool = False

    @property
    def other(self) -> ObjectKey:
        return ObjectKey(self.key + "-copy")

    async def run(self) -> Capabilities:
        self.store.capabilities = Capabilities()
        none_match = await self._put_if_none_match()
        put_match, quoted = await self._put_if_match()
        self.store.capabilities = replace(self.store.capabilities, quoted_if_match=quoted)
        self.store.capabilities = Capabilities(
            put_if_none_match=none_match,
            put_if_match=put_match,
            quoted_if_match=quoted,
            complete_if_match=await self._complete_if_match(),
            copy_source_if_match=await self._copy_source_if_match(),
            copy_if_match=await self._copy_if_match(),
            delete_if_match=await self._delete_if_match(),
            delete_many_if_match=await self._delete_many_if_match(),
            part_copy=(part_copy := await self._part_copy(None)) is _Answer.DONE,
            part_copy_source_if_match=part_copy is _Answer.DONE and await self._part_copy(WRONG) is _Answer.REFUSED,
            replace_keeps_tags=await self._replace_keeps_tags(),
            acls=await self._acls(),
            versioning=bool((await self.store.head(self.key)).version_id),
            probed=True,
        )
        return self.store.capabilities

    async def _put_if_none_match(self) -> bool:
        absent = Condition(absent=True)
        self.written = True
        try:
            self.etag = (await self.store.put(self.key, FIRST, {}, condition=absent)).etag
        except StoreAccessDenied:
            raise
        except StoreError as error:
            if error.transient:
                raise
            self.etag = (await self.store.put(self.key, FIRST, {})).etag
        return await _ask(self.store.put(self.key, FIRST, {}, condition=absent)) is _Answer.REFUSED

    async def _put_if_match(self) -> tuple[bool, bool]:
        """Return (honoured, quoted). Leaves an object at the key, ``etag`` its etag."""
        wrong = await _ask(self.store.put(self.key, FIRST, {}, condition=Condition(match=WRONG)))
        if wrong is not _Answer.REFUSED:
            return False, True
        for quoted in (True, False):
            self.store.capabilities = replace(self.store.capabilities, quoted_if_match=quoted)
            condition = Condition(match=self.etag)
            if await _ask(self.store.put(self.key, FIRST, {}, condition=condition)) is _Answer.DONE:
                return True, quoted
        return False, True

    async def _complete_if_match(self) -> bool:
        async def complete(match: ETag) -> _Answer:
            upload_id = await self.store.create_multipart(self.key, {})
            self.uploads.append((self.key, upload_id))
            part = await self.store.upload_part(self.key, upload_id, 1, FIRST)
            condition = Condition(match=match)
            return await _ask(self.store.complete_multipart(self.key, upload_id, [part], condition=condition))

        if await complete(WRONG) is not _Answer.REFUSED:
            return False
        honoured = await complete(self.etag) is _Answer.DONE
        self.etag = (await self.store.head(self.key)).etag
        return honoured

    async def _copy_source_if_match(self) -> bool:
        self.etag = (await self.store.head(self.key)).etag
        wrong = await _ask(self.store.copy(self.key, self.other, source_etag=WRONG))
        right = await _ask(self.store.copy(self.key, self.other, source_etag=self.etag))
        return (wrong, right) == (_Answer.REFUSED, _Answer.DONE)

    async def _copy_if_match(self) -> bool:
        await self.store.put(self.other, SECOND, {})
        answers = [
            await _ask(self.store.copy(self.key, self.other, source_etag=None, condition=condition))
            for condition in (Condition(absent=True), Condition(match=WRONG))
        ]
        return answers == [_Answer.REFUSED, _Answer.REFUSED]

    async def _delete_if_match(self) -> bool:
        etag = (await self.store.put(self.other, SECOND, {})).etag
        wrong = await _ask(self.store.delete(self.other, condition=Condition(match=WRONG)))
        right = await _ask(self.store.delete(self.other, condition=Condition(match=etag)))
        return (wrong, right) == (_Answer.REFUSED, _Answer.DONE)

    async def _delete_many_if_match(self) -> bool:
        """A store that cannot delete many, not for us, or answers that nobody can read, gets single deletions."""
        etag = (await self.store.put(self.other, SECOND, {})).etag
        try:
            wrong = await self.store.delete_many([Deletion(self.other, WRONG)])
            right = await self.store.delete_many([Deletion(self.other, etag)])
        except StoreError as error:
            if error.transient and not isinstance(error, BadResponse):
                raise
            return False
        return isinstance(wrong.get(self.other), PreconditionFailed) and not right

    async def _part_copy(self, source_etag: ETag | None) -> _Answer:
        upload_id = await self.store.create_multipart(self.other, {})
        self.uploads.append((self.other, upload_id))
        size = (await self.store.head(self.key)).size
        return await _ask(self.store.copy_part(self.other, upload_id, 1, self.key, 0, size, source_etag=source_etag))

    async def _replace_keeps_tags(self) -> bool:
        """Ask with tags of our own. Where we may not set or read any, there are none that we could lose or save."""
        if await _ask(self.store.put_with(self.key, FIRST.data, {"x-amz-tagging": TAGGING})) is not _Answer.DONE:
            return True
        await self.store.copy(self.key, self.other, source_etag=None, metadata={"asked": "tags"})
        try:
            return await self.store.tagging(self.other) == TAGGING
        except StoreAccessDenied:
            return True

    async def _acls(self) -> bool:
        """Ask with the most harmless ACL. A bucket without ACLs (AWS's default) refuses even that one."""
        private = {"x-amz-acl": "private"}
        if await _ask(self.store.put_with(self.key, FIRST.data, private)) is not _Answer.DONE:
            return False
        return await _ask(self.store.grants(self.key)) is _Answer.DONE

    async def clean_up(self) -> None:
        if not self.written:
            return
        for key, upload_id in self.uploads:
            await self._clean(self.store.abort_multipart(key, upload_id))
        for key in (self.key, self.other):
            await self._clean(self.store.purge(key))

    async def _clean(self, removal: Awaitable[None]) -> None:
        try:
            await removal
        except StoreError as error:
            log.warning("could not remove the probe's scratch object: %s", error)


async def _ask(request: Awaitable[T]) -> _Answer:
    try:
        await request
    except PreconditionFailed:
        return _Answer.REFUSED
    except StoreError as error:
        if error.transient:
            raise
        return _Answer.UNSUPPORTED
    return _Answer.DONE
