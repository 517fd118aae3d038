"""Every kind of problem has a cure, and a row in the manual."""

import re
from pathlib import Path

from gatewayfs.daemon.healthtypes import TYPES

ROOT = Path(__file__).parents[3]


def test_every_type_in_the_code_has_a_cure_and_every_cure_a_type() -> None:
    code = "".join(
        (ROOT / "gatewayfs" / "daemon" / name).read_text() for name in ("problems.py", "wording.py", "health.py")
    )
    assert {name for name in TYPES if f'"{name}"' not in code} == set()
    named = set(re.findall(r'Problem\(\s*"(\w+)"', code)) | set(re.findall(r'kind = "(\w+)"', code))
    assert named - set(TYPES) == set()


def test_every_type_is_in_the_manual() -> None:
    manual = (ROOT / "docs" / "operating.md").read_text().partition("### Health log")[2]
    rows = "".join(line for line in manual.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows.partition("| `S3AccessDenied`")[0])) <= set(TYPES)
    assert {name for name in TYPES if f"`{name}`" not in rows} == set()
