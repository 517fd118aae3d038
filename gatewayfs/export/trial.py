"""Ask nfs-ganesha itself whether it understands a configuration: start it where nobody can reach it.

ganesha 4 has no option that only checks. So it runs for a moment in a network namespace of its own, where not even
loopback is up, with a copy of the configuration in a temporary directory: no sockets that clients know, no rpcbind,
no recovery directory of the real one. It logs what it does not like, and says when it serves.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

SERVES = "NFS SERVER INITIALIZED"
TRIAL_S_MAX = 20.0
POLL_S = 0.05

# One line of ganesha's log: date : epoch ... : host : program-pid[thread] function :COMPONENT :LEVEL :text
_LINE = re.compile(r"\] (\w+) :([A-Z0-9 ]+) :(\w+) :(.*)")
_COMPONENTS = ("CONFIG", "EXPORT", "FSAL", "DISP")
# DISP: among others that there is no key for Kerberos.
_SERIOUS = ("WARN", "CRIT", "MAJ", "FATAL")
# Said of every configuration, right or wrong; the last two because of what ``apart`` changes, and where it runs.
_USUAL = re.compile(r"RADOS|blkid|protocol is specified .* not enabled in NFS_CORE_PARAM|Cannot register NFS")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether ganesha served, and what it complained about."""

    served: bool
    complaints: tuple[str, ...]

    @property
    def good(self) -> bool:
        return self.served and not self.complaints


async def try_out(program: str, main: str, exports: Iterable[str]) -> Verdict:
    """Start ganesha with this configuration for a moment. Needs root.

    Args:
        program: path of ganesha.nfsd.
        main: ganesha.conf without its includes.
        exports: the EXPORT blocks.
    """
    with tempfile.TemporaryDirectory(prefix="gatewayfs-export-") as name:
        folder = Path(name)
        log = folder / "log"
        (folder / "conf").write_text(apart(main, exports, folder))
        command = ["unshare", "--net", program, "-F", "-f", f"{folder}/conf", "-L", str(log), "-p", f"{folder}/pid"]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            with trio.move_on_after(TRIAL_S_MAX):
                while True:
                    if process.poll() is not None or _serves(log):
                        break
                    await trio.sleep(POLL_S)
            served = process.poll() is None and _serves(log)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        return Verdict(served, tuple(complaints(log.read_text(errors="replace") if log.exists() else "")))


def apart(main: str, exports: Iterable[str], folder: Path) -> str:
    """The configuration, changed so that it serves nobody: NFSv3 would want rpcbind, and recovery has its own place."""
    text = re.sub(r"(NFS_CORE_PARAM\s*\{[^}]*?Protocols\s*=)[^;]*;", r"\1 4;", main)
    text = re.sub(r"(NFSv4\s*\{)", rf'\1\n    RecoveryRoot = "{folder}";', text)
    only_v4 = (re.sub(r"^    Protocols = .*;$", "    Protocols = 4;", export, flags=re.MULTILINE) for export in exports)
    return "\n".join([text, *only_v4])


def complaints(log: str) -> Iterator[str]:
    """What ganesha says is wrong with its configuration, in its words."""
    for line in log.splitlines():
        found = _LINE.search(line)
        if found and found[2].strip() in _COMPONENTS and found[3] in _SERIOUS and not _USUAL.search(found[4]):
            yield found[4].strip()


def _serves(log: Path) -> bool:
    return log.exists() and SERVES in log.read_text(errors="replace")
