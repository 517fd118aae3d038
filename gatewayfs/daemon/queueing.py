"""The queue in an operator's hands, over the control socket (``control.calls`` describes the shapes)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gatewayfs.control import calls
from gatewayfs.control.server import Handler
from gatewayfs.control.server import Progress as Tell
from gatewayfs.errors import GatewayError, NoEntry, NotADirectory, UserError
from gatewayfs.meta.env import MetaStore
from gatewayfs.types import ROOT_INO
from gatewayfs.upload.operator import PAGE_MAX, Operator
from gatewayfs.vfs.namespace import Namespace

PATHS_MAX = 100


class Queueing:
    """Handlers of the queue's calls.

    Args:
        names: finds out what a path is, asking the bucket where the records cannot tell.
        written: puts the size of what is open for writing into its record.
    """

    def __init__(
        self, operator: Operator, names: Namespace, meta: MetaStore, written: Callable[[], Awaitable[None]]
    ) -> None:
        self._operator, self._names, self._meta, self._written = operator, names, meta, written

    def handlers(self) -> Mapping[str, Handler]:
        """For the control server."""
        return {
            calls.QUEUE: self._list,
            calls.QUEUE_HOLD: self._hold,
            calls.QUEUE_RELEASE: self._release,
            calls.QUEUE_RETRY: self._retry,
            calls.QUEUE_NOW: self._now,
        }

    async def _list(self, args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        (path,) = paths_of({"paths": [args.get("path") or ""]})
        await self._find(path)
        after, limit = args.get("after"), args.get("limit", PAGE_MAX)
        if not isinstance(limit, int) or (after is not None and not _is_position(after)):
            raise UserError("limit must be a number, and after what an earlier answer said")
        page = await self._operator.entries(path, (float(after[0]), after[1]) if after else None, limit)
        return {"entries": [asdict(entry) for entry in page.entries], "after": page.after}

    async def _hold(self, args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        found = [(path, await self._find(path)) for path in paths_of(args)]
        for path, ino in found:
            if not ino:
                raise UserError(f"{path}: is not there any more", "hold the directory it was in")
            await self._operator.hold(path, ino)
        return self._holds()

    async def _release(self, args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        for path in paths_of(args):
            if not await self._operator.release(path) and path:
                held = ", ".join(hold.path or "the whole share" for hold in self._operator.holds)
                raise UserError(f"{path}: is not held by itself", f"held: {held}" if held else "nothing is held")
        return self._holds()

    async def _retry(self, args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        return await self._each(args, self._operator.retry)

    async def _now(self, args: dict[str, Any], _progress: Tell) -> dict[str, Any]:
        await self._written()
        return await self._each(args, self._operator.hurry)

    async def _each(self, args: dict[str, Any], act: Callable[[str], Awaitable[int]]) -> dict[str, Any]:
        paths = paths_of(args)
        for path in paths:
            await self._find(path)
        return {"entries": sum([await act(path) for path in paths])}

    def _holds(self) -> dict[str, Any]:
        return {"holds": [{"path": hold.path, "since_ns": hold.since_ns} for hold in self._operator.holds]}

    async def _find(self, path: str) -> int:
        """The inode at ``path``; 0 when only its object is left, which is to be deleted. Raises UserError."""
        ino: int = ROOT_INO
        try:
            for name in filter(None, path.split("/")):
                ino = (await self._names.lookup(ino, name.encode())).ino
        except (NoEntry, NotADirectory):
            key = self._meta.prefix + path
            if self._meta.doomed(key) is None and self._meta.doomed(f"{key}/") is None:
                raise UserError(f"{path}: no such file or directory in this share") from None
            return 0
        except (GatewayError, UnicodeEncodeError) as problem:
            raise UserError(f"{path}: {problem}") from problem
        return ino


def paths_of(args: Mapping[str, Any]) -> Sequence[str]:
    """The call's paths, relative to the share; without any, the share. Raises UserError."""
    paths = args.get("paths") or [""]
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise UserError("paths must be a list of paths")
    if len(paths) > PATHS_MAX:
        raise UserError(f"at most {PATHS_MAX} paths at a time", "name a directory above them instead")
    return [path.strip("/") for path in paths]


def _is_position(after: object) -> bool:
    match after:
        case [float() | int(), str()]:
            return True
    return False
