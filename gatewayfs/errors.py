"""Errors in our own language.

Every border (boto and HTTP, LMDB, the disk) translates what it meets into one of these, keeping the cause;
``fuse/errnos.py`` alone turns them into errno. Three families:

* ``FsError``     what a POSIX caller did or asked for; becomes an errno, is never logged as a fault.
* ``StoreError``  what the object store answered or failed to answer; says whether waiting may help.
* ``LocalError``  our own disk or records.

``UserError`` is for the command line: one sentence naming the thing, one naming the cure.
"""


class GatewayError(Exception):
    """Base of all errors raised on purpose by GatewayFS."""


class UserError(GatewayError):
    """A mistake of the person at the keyboard, or of a file that person wrote.

    Args:
        message: one line naming the thing that is wrong.
        cure: one line saying what to do, or "".
        exit_code: process exit status for the command line (see ``gatewayfs.cli.exitcodes``).
    """

    def __init__(self, message: str, cure: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure
        self.exit_code = exit_code


# --------------------------------------------------------------------------- POSIX callers


class FsError(GatewayError):
    """A POSIX call that must fail; each subclass is one errno."""


class NoEntry(FsError):
    """The name or inode does not exist (ENOENT)."""


class StaleInode(FsError):
    """The inode number was valid once and is gone for good (ESTALE)."""


class EntryExists(FsError):
    """The name is taken (EEXIST)."""


class NotADirectory(FsError):
    """A directory was needed (ENOTDIR)."""


class IsADirectory(FsError):
    """A directory will not do (EISDIR)."""


class DirectoryNotEmpty(FsError):
    """The directory has entries (ENOTEMPTY)."""


class NameTooLong(FsError):
    """A name over 255 bytes, or a path whose object key would exceed 1024 bytes (ENAMETOOLONG)."""


class BadName(FsError):
    """A name that is not UTF-8 and so cannot be an object key (EILSEQ)."""


class InvalidArgument(FsError):
    """The arguments contradict each other (EINVAL)."""


class NotPermitted(FsError):
    """The operation does not exist here, for example a hard link (EPERM)."""


class PermissionDenied(FsError):
    """The caller may not (EACCES)."""


class ReadOnlyShare(FsError):
    """The share is read-only (EROFS)."""


class ChangesRefused(FsError):
    """The cache disk keeps nothing, or does not answer: changes are refused, nothing was tried (EROFS)."""


class NoSpace(FsError):
    """Cache, disk or the 2 KB of object metadata are full (ENOSPC)."""


class FileTooLarge(FsError):
    """Beyond S3's largest object, 5 TiB (EFBIG)."""


class NoAttribute(FsError):
    """The extended attribute does not exist (ENODATA)."""


class NotSupported(FsError):
    """Not supported, for example xattrs outside ``user.`` (EOPNOTSUPP)."""


class BadHandle(FsError):
    """The file handle is not open (EBADF)."""


class Unavailable(FsError):
    """The bytes or names asked for are only in the bucket, and the bucket does not answer (EIO).

    Args:
        reason: one line for the log and ``status``.
    """


class Archived(Unavailable):
    """The bytes asked for are in an archive tier of the bucket: they come after a restore, not after a while (EIO)."""


class Interrupted(FsError):
    """The caller gave up (EINTR)."""


class TryAgain(FsError):
    """Too many wait for the same already (EAGAIN)."""


# --------------------------------------------------------------------------- the object store


class StoreError(GatewayError):
    """The object store refused or did not answer.

    Args:
        message: what happened, in one line, without secrets.
        operation: the S3 operation, for example "PutObject".
        key: the object key concerned, or "".
        code: the store's own error code, or "".
        status: the HTTP status, or 0 where none arrived.

    ``transient`` is a class attribute: True when the same request may succeed later by itself.
    """

    transient = False

    def __init__(self, message: str, *, operation: str = "", key: str = "", code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.operation = operation
        self.key = key
        self.code = code
        self.status = status


class StoreUnreachable(StoreError):
    """No usable connection: DNS, refused, reset, timed out, broken TLS, body cut short."""

    transient = True


class StoreBusy(StoreError):
    """500, 503 or SlowDown: the store asks us to come back."""

    transient = True


class BadResponse(StoreError):
    """An answer that is not S3's: HTML from a captive portal, broken XML, a wrong length."""

    transient = True


class ObjectDamaged(StoreError):
    """The bytes that came are not those the object's checksum is of: the line damaged them, or the store did."""

    transient = True


class ObjectNotFound(StoreError):
    """404 NoSuchKey."""


class BucketNotFound(StoreError):
    """404 NoSuchBucket."""


class PreconditionFailed(StoreError):
    """412: the object is not (or is) what If-Match / If-None-Match said."""


class ConcurrentRequest(StoreError):
    """409 ConditionalRequestConflict or OperationAborted: somebody else is writing right now; look again, retry."""

    transient = True


class StoreAccessDenied(StoreError):
    """403 AccessDenied for this request."""


class CredentialsRejected(StoreError):
    """403 InvalidAccessKeyId, SignatureDoesNotMatch, ExpiredToken ...: no request will succeed until cured."""


class ObjectArchived(StoreError):
    """403 InvalidObjectState: the object is in an archive tier and cannot be read now."""


class RangeNotSatisfiable(StoreError):
    """416: the object is shorter than the range."""


class UploadNotFound(StoreError):
    """404 NoSuchUpload: the multipart upload was completed or aborted."""


class StoreRefused(StoreError):
    """Any other 4xx: the request itself is wrong (EntityTooLarge, KeyTooLongError, InvalidRequest ...)."""


class BodyChanged(StoreError):
    """The bytes on our disk are no longer those the request was planned for; nothing was sent."""


# --------------------------------------------------------------------------- our own disk and records


class LocalError(GatewayError):
    """Something is wrong on this machine."""


class CorruptRecord(LocalError):
    """A record, journal frame or cache file that contradicts its checksum or its neighbours."""


class CacheDiskFull(LocalError):
    """The cache disk has no room (ENOSPC to the caller; nothing is lost)."""


class CacheDiskFailed(LocalError):
    """The cache disk answered EIO, EROFS or worse."""


class CacheDiskHangs(LocalError):
    """The cache disk does not answer, so nothing was tried (EIO)."""


class SchemaTooNew(LocalError):
    """The cache directory was written by a newer GatewayFS."""
