"""A gateway without a bucket: registers, answers the control calls from a script, and "mounts" a tmpfs.

Run as a program by test_verbs.py: ``fakegateway.py DIR SCRIPT``. SCRIPT is JSON: ``status``, ``drain`` (a list of
progress frames and the result), ``queue`` (entries), ``mount`` (whether to mount), ``stubborn`` (do not end when
unmounted), ``deaf`` (nor when told to). Prints "serving" when it does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from gatewayfs import mountpoint
from gatewayfs.control.registry import Registration, Registry, runtime_directory
from gatewayfs.control.server import ControlServer, Progress
from gatewayfs.errors import UserError


async def serve(place: Path, script: dict[str, Any]) -> None:
    registry = Registry(runtime_directory())
    stop = trio.Event()

    async def status(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        return dict(script["status"])

    async def drain(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        *frames, result = script["drain"]
        if args.get("wait"):
            for frame in frames:
                progress(frame)
                await trio.sleep(0.01)
        return dict(result) | {"args": args}

    async def refresh(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        progress({"names": 1, "names_total": 5})
        job = {"notification_id": "id-1", "state": script.get("refresh", "running"), "report": {"listed": 3}}
        return job | {"folders": args["folders"], "args": args}

    async def refresh_jobs(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        job = {"notification_id": "id-1", "elapsed_s": 7, "folders": ["/a"], "report": {"names": 3, "added": 2}}
        return {"running": [job | {"state": "running", "reason": "no route"}], "recent": [job | {"state": "done"}]}

    async def refresh_cancel(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        if args["notification_id"] != "id-1":
            raise UserError(f"no refresh {args['notification_id']} is running")
        return {}

    async def queue(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        """The script's entries, two at a time."""
        start = args["after"][0] if args.get("after") else 0
        found = script["queue"][start : start + min(2, args["limit"])]
        following = start + len(found)
        return {"entries": found, "after": [following, ""] if following < len(script["queue"]) else None}

    async def queue_change(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        return {"entries": 2, "holds": [{"path": path, "since_ns": 0} for path in args["paths"]], "args": args}

    async def end(args: dict[str, Any], progress: Progress) -> Mapping[str, Any]:
        if not script.get("deaf"):
            stop.set()
        return {}

    socket = registry.socket_path("fake")
    registry.prepare()
    entry = registry.register(
        Registration(
            "fake", str(place), os.getpid(), str(socket), "/cache/fake", "bucket-1", "", "2026-01-01T00:00:00Z"
        )
    )
    handlers = {"status": status, "drain": drain, "refresh": refresh, "stop": end, "queue": queue}
    handlers |= {"refresh-jobs": refresh_jobs, "refresh-cancel": refresh_cancel}
    handlers |= {f"queue-{action}": queue_change for action in ("hold", "release", "retry", "now")}
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(socket, handlers).serve)
        print("serving", flush=True)
        while not stop.is_set() and (not script.get("mount") or mountpoint.mounted_at(place) or script.get("stubborn")):
            with trio.move_on_after(0.01):
                await stop.wait()
        nursery.cancel_scope.cancel()
    registry.unregister(entry)


if __name__ == "__main__":
    where, orders = Path(sys.argv[1]), json.loads(sys.argv[2])
    if orders.get("mount"):
        subprocess.run(["mount", "-t", "tmpfs", "fake", str(where)], check=True)
    trio.run(serve, where, orders)
