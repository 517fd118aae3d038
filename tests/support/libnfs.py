"""An NFS client in this process: libnfs, through ctypes.

The Debian library is used as it is (``libnfs13``, which comes with ``libnfs-utils``): the binding on PyPI is built from
source against its headers and offers neither users nor locks. A ``Client`` is one mount; every call raises OSError
with the server's errno. Calls may be made from a thread that has entered a network namespace.
"""

import ctypes
import ctypes.util
import errno
import itertools
import os
from types import TracebackType
from typing import Any, Self

TIMEOUT_MS = 60_000
LOCK, TRY_LOCK, UNLOCK = 0, 1, 2
"""``enum nfs4_lockf_op``."""
PORTS = "&nfsport=2049&mountport=20048"
"""Without asking rpcbind."""
LIBRARY = "libnfs.so.13"

_pointer = ctypes.c_void_p
_numbers = itertools.count(1)


class _Dirent(ctypes.Structure):
    """The head of ``struct nfsdirent``; the rest is not read."""


_Dirent._fields_ = [("next", ctypes.POINTER(_Dirent)), ("name", ctypes.c_char_p), ("inode", ctypes.c_uint64)]


class Stat(ctypes.Structure):
    """``struct nfs_stat_64``."""

    _fields_ = [
        (f"nfs_{name}", ctypes.c_uint64)
        for name in [
            "dev",
            "ino",
            "mode",
            "nlink",
            "uid",
            "gid",
            "rdev",
            "size",
            "blksize",
            "blocks",
            "atime",
            "mtime",
            "ctime",
            "atime_nsec",
            "mtime_nsec",
            "ctime_nsec",
            "used",
        ]
    ]


def load() -> Any:
    """The library. Raises OSError where it is not installed."""
    library = ctypes.CDLL(LIBRARY)
    library.nfs_init_context.restype = _pointer
    library.nfs_get_error.restype = ctypes.c_char_p
    library.nfs_get_error.argtypes = [_pointer]
    library.nfs_parse_url_full.restype = _pointer
    library.nfs_readdir.restype = ctypes.POINTER(_Dirent)
    return library


class Client:
    """One mount of an export.

    Args:
        path: the export's path.
        version: 3 or 4 (libnfs speaks 4.0).
        uid, gid: who the client says it is.
    """

    def __init__(self, path: str, *, version: int, uid: int = 0, gid: int = 0, server: str = "127.0.0.1") -> None:
        self._nfs = load()
        self._context = _pointer(self._nfs.nfs_init_context())
        self._nfs.nfs_parse_url_full(self._context, f"nfs://{server}{path}/?version={version}{PORTS}".encode())
        self._nfs.nfs_set_uid(self._context, uid)
        self._nfs.nfs_set_gid(self._context, gid)
        # Or two clients of one process would pass for one that was started again, and lose their files and locks.
        self._nfs.nfs4_set_client_name(self._context, f"client {next(_numbers)} of {os.getpid()}".encode())
        # For ever, as a hard mount.
        self._nfs.nfs_set_autoreconnect(self._context, -1)
        self._nfs.nfs_set_timeout(self._context, TIMEOUT_MS)
        self._call("nfs_mount", server.encode(), path.encode())

    def _call(self, name: str, *arguments: Any) -> int:
        result = int(getattr(self._nfs, name)(self._context, *arguments))
        if result < 0:
            said = self._nfs.nfs_get_error(self._context) or b""
            raise OSError(-result, f"{name}: {errno.errorcode.get(-result, '')} {said.decode(errors='replace')}")
        return result

    def open(self, path: str, flags: int, mode: int = 0o644) -> "File":
        handle = _pointer()
        self._call("nfs_open2", path.encode(), flags, mode, ctypes.byref(handle))
        return File(self, handle)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        with self.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode) as file:
            file.write(0, data)
            file.sync()

    def read(self, path: str) -> bytes:
        with self.open(path, os.O_RDONLY) as file:
            return file.read(0, 1 << 20)

    def stat(self, path: str) -> Stat:
        found = Stat()
        self._call("nfs_lstat64", path.encode(), ctypes.byref(found))
        return found

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self._call("nfs_mkdir2", path.encode(), mode)

    def rename(self, old: str, new: str) -> None:
        self._call("nfs_rename", old.encode(), new.encode())

    def unlink(self, path: str) -> None:
        self._call("nfs_unlink", path.encode())

    def chmod(self, path: str, mode: int) -> None:
        self._call("nfs_chmod", path.encode(), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._call("nfs_chown", path.encode(), uid, gid)

    def symlink(self, target: str, path: str) -> None:
        self._call("nfs_symlink", target.encode(), path.encode())

    def readlink(self, path: str) -> str:
        buffer = ctypes.create_string_buffer(4096)
        self._call("nfs_readlink", path.encode(), buffer, 4096)
        return buffer.value.decode()

    def listdir(self, path: str) -> list[str]:
        directory = _pointer()
        self._call("nfs_opendir", path.encode(), ctypes.byref(directory))
        names = []
        while entry := self._nfs.nfs_readdir(self._context, directory):
            names.append(entry.contents.name.decode())
        self._nfs.nfs_closedir(self._context, directory)
        return sorted(set(names) - {".", ".."})

    def close(self) -> None:
        self._nfs.nfs_destroy_context(self._context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class File:
    """One open file."""

    def __init__(self, client: Client, handle: Any) -> None:
        self._client = client
        self._handle = handle

    def write(self, offset: int, data: bytes) -> int:
        return self._client._call("nfs_pwrite", self._handle, ctypes.c_uint64(offset), ctypes.c_uint64(len(data)), data)

    def read(self, offset: int, length: int) -> bytes:
        buffer = ctypes.create_string_buffer(length)
        count = self._client._call("nfs_pread", self._handle, ctypes.c_uint64(offset), ctypes.c_uint64(length), buffer)
        return buffer.raw[:count]

    def sync(self) -> None:
        """NFS COMMIT."""
        self._client._call("nfs_fsync", self._handle)

    def lock(self, command: int, length: int) -> None:
        """lockf(3) from the file's position, which is its beginning."""
        self._client._call("nfs_lockf", self._handle, command, ctypes.c_uint64(length))

    def close(self) -> None:
        self._client._call("nfs_close", self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is None:
            self.close()
