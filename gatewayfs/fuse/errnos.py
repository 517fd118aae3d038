"""The one table from errors to errno.

Nothing else in the program knows an errno for users. An error that is not in the table is a bug or a fault of this
machine: it becomes EIO, and the caller of ``errno_of`` logs it.
"""

import errno

from gatewayfs import errors

_TABLE: dict[type[BaseException], int] = {
    errors.NoEntry: errno.ENOENT,
    errors.StaleInode: errno.ESTALE,
    errors.EntryExists: errno.EEXIST,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.DirectoryNotEmpty: errno.ENOTEMPTY,
    errors.NameTooLong: errno.ENAMETOOLONG,
    errors.BadName: errno.EILSEQ,
    errors.InvalidArgument: errno.EINVAL,
    errors.NotPermitted: errno.EPERM,
    errors.PermissionDenied: errno.EACCES,
    errors.ReadOnlyShare: errno.EROFS,
    errors.ChangesRefused: errno.EROFS,
    errors.NoSpace: errno.ENOSPC,
    errors.FileTooLarge: errno.EFBIG,
    errors.NoAttribute: errno.ENODATA,
    errors.NotSupported: errno.EOPNOTSUPP,
    errors.BadHandle: errno.EBADF,
    errors.Unavailable: errno.EIO,
    errors.Interrupted: errno.EINTR,
    errors.TryAgain: errno.EAGAIN,
    errors.CacheDiskFull: errno.ENOSPC,
    errors.CacheDiskFailed: errno.EIO,
    errors.CorruptRecord: errno.EIO,
    errors.StoreAccessDenied: errno.EACCES,
    errors.StoreError: errno.EIO,
    errors.LocalError: errno.EIO,
}

QUIET = (errors.FsError,)
"""Answers to what a program asked for: not worth a log line each, ``Unavailable`` excepted."""


def errno_of(problem: BaseException) -> int | None:
    """The errno for an error raised on purpose; None for anything unexpected."""
    for kind in type(problem).__mro__:
        if kind in _TABLE:
            return _TABLE[kind]
    return None


def deserves_log(problem: BaseException) -> bool:
    """True for errors an administrator should hear of though the program got a plain errno.

    Archived objects are logged once each where they are noted (``s3/archives.py``), not at every read.
    """
    if isinstance(problem, errors.Archived):
        return False
    return isinstance(problem, errors.Unavailable) or not isinstance(problem, QUIET)
