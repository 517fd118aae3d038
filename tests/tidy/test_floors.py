"""The house stands: modules import lower floors only, never a neighbour; a foreign library has one owner."""

import sys
import tomllib

import pytest

from tests.tidy.sources import ROOT, Module, modules

# Top to ground. What stands on one line are neighbours, which do not know each other.
FLOORS = (
    ("cli",),
    ("daemon",),
    ("fuse", "control", "export"),
    ("vfs",),
    ("upload", "refresh", "events"),
    ("cache", "locking", "objectrecords"),
    ("meta", "s3"),
    ("runtime", "mountpoint"),
    ("conflict",),
    ("config",),
    ("errors",),
    ("types", "_version", "logs"),
)
HEIGHT = {unit: -level for level, units in enumerate(FLOORS) for unit in units}

# Who may import what: a package or a single file. What is not listed is free for everybody.
OWNERS = {
    "pyfuse3": ("fuse",),
    "boto3": ("s3",),
    "botocore": ("s3",),
    # s3/ speaks S3 with it, events/ posts to web services: one library for HTTP, no code between the two.
    "urllib3": ("s3", "events"),
    "s3transfer": ("s3",),
    "lmdb": ("meta",),
    "rich": ("cli",),
    "pydantic": ("config",),
    # At the disk's border an errno becomes our own error, at the kernel's ours becomes an errno; between them, none.
    "errno": ("fuse", "cache", "meta", "runtime", "mountpoint.py", "cli"),
    "random": ("runtime",),
    "secrets": ("runtime",),
}
# Parts of a dependency that have a name of their own.
PART_OF = {"botocore": "boto3", "outcome": "trio", "pydantic_core": "pydantic"}


def floor_complaints(module: Module) -> list[str]:
    if module.path == "gatewayfs/__init__.py":
        return [f"{module.path}:{line}: imports {name}; it must stay free" for name, line in module.imports()]
    if module.unit not in HEIGHT:
        return [f"{module.path}: {module.unit!r} has no floor; give it one in {__file__}"]
    complaints = []
    for name, line in module.imports():
        top, _, rest = name.partition(".")
        unit = rest.split(".")[0]
        if top != "gatewayfs" or unit == module.unit:
            continue
        if unit not in HEIGHT:
            complaints.append(f"{module.path}:{line}: gatewayfs.{unit} has no floor")
        elif HEIGHT[unit] >= HEIGHT[module.unit]:
            complaints.append(f"{module.path}:{line}: {module.unit} may not know gatewayfs.{unit}")
    return complaints


def owner_complaints(module: Module) -> list[str]:
    inside = module.path.removeprefix("gatewayfs/")
    complaints = []
    for name, line in module.imports():
        library = name.split(".")[0]
        owners = OWNERS.get(library, (module.unit,))
        if module.unit not in owners and f"{module.unit}.py" not in owners and inside not in owners:
            complaints.append(f"{module.path}:{line}: only {', '.join(owners)} may import {library}")
    return complaints


@pytest.mark.parametrize("module", modules("gatewayfs"), ids=lambda module: module.path)
def test_a_module_imports_lower_floors_only(module: Module) -> None:
    assert floor_complaints(module) == []


@pytest.mark.parametrize("module", modules("gatewayfs"), ids=lambda module: module.path)
def test_a_foreign_library_is_imported_by_its_owner_only(module: Module) -> None:
    assert owner_complaints(module) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("gatewayfs/meta/x.py", "from gatewayfs.vfs.y import Z"),
        ("gatewayfs/meta/x.py", "import gatewayfs.s3.store"),
        ("gatewayfs/cache/x.py", "def f():\n    from gatewayfs import locking"),
        ("gatewayfs/errors.py", "from gatewayfs.config import Share"),
        ("gatewayfs/attic/x.py", "import os"),
        ("gatewayfs/fuse/x.py", "from gatewayfs.attic import y"),
    ],
)
def test_the_floor_rule_bites(path: str, text: str) -> None:
    assert len(floor_complaints(Module.sample(path, text))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("gatewayfs/vfs/x.py", "import pyfuse3"),
        ("gatewayfs/upload/x.py", "from botocore.exceptions import ClientError"),
        ("gatewayfs/vfs/x.py", "from errno import ENOENT"),
    ],
)
def test_the_owner_rule_bites(path: str, text: str) -> None:
    assert len(owner_complaints(Module.sample(path, text))) == 1


def test_every_foreign_library_is_a_declared_dependency_and_every_dependency_is_used() -> None:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {requirement.split(">")[0] for requirement in requirements}
    imported = {name.split(".")[0] for module in modules("gatewayfs") for name, _ in module.imports()}
    foreign = imported - set(sys.stdlib_module_names) - {"gatewayfs"}
    assert {PART_OF.get(name, name) for name in foreign} == declared
