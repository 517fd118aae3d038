"""``python -m bench [NAME...]``: run benchmarks, print a table, write one JSON file under ``bench/results/``.

Every figure is taken beside its yardstick (a local directory on the same disk, a smaller number of inodes) in the same
run, and given as a ratio: absolute numbers of a shared machine mean little.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import far, floor, foreground, integrity, mounted, records, refresh, renames, s3_client, uploads

BENCHMARKS: dict[str, Callable[[], dict[str, Any]]] = {
    "far": far.run,
    "floor": floor.run,
    "foreground": foreground.run,
    "integrity": integrity.run,
    "mounted": mounted.run,
    "records": records.run,
    "refresh": refresh.run,
    "renames": renames.run,
    "s3_client": s3_client.run,
    "uploads": uploads.run,
}
RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cpus": os.cpu_count(),
        "cpu": next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown"),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


def commit() -> str:
    """The commit the working tree is at, with "+" when it was changed since."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="*", choices=[*BENCHMARKS, []], help="which; all without a name")
    names = parser.parse_args().name or list(BENCHMARKS)
    result = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "machine": machine()}
    for name in names:
        result[name] = BENCHMARKS[name]()
        for figure, value in result[name].items():
            sys.stdout.write(f"{name:10} {figure:45} {value}\n")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result['at'][:10]}-{result['commit'].rstrip('+')}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(f"written to {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
