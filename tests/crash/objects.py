"""What the bucket must hold for a tree, and how what it holds differs. Knows nothing of the product's own codecs."""

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.crash.steps import DIRECTORY, FILE, LINK, Node, Tree

TYPE_BITS = {FILE: stat.S_IFREG, DIRECTORY: stat.S_IFDIR, LINK: stat.S_IFLNK}


@dataclass(frozen=True)
class Object:
    """One object as any S3 client sees it; metadata keys in lower case."""

    key: str
    data: bytes
    metadata: Mapping[str, str]


def complaints(tree: Tree, objects: Iterable[Object], prefix: str = "") -> list[str]:
    """One line for each way in which the bucket is not exactly ``tree``: one object per entry, bytes, attributes."""
    found = {item.key: item for item in objects}
    wanted = {f"{prefix}{path}{'/' if node.kind == DIRECTORY else ''}": node for path, node in tree.items()}
    lines = [f"no object {key}" for key in sorted(wanted.keys() - found.keys())]
    lines += [f"nobody made {key}" for key in sorted(found.keys() - wanted.keys()) if key != prefix]
    for key in sorted(wanted.keys() & found.keys()):
        lines += [f"{key} {why}" for why in _differences(wanted[key], found[key])]
    return lines


def _differences(node: Node, item: Object) -> Iterable[str]:
    if node.data != item.data:
        yield f"has other bytes ({len(item.data)}, not {len(node.data)})"
    wanted = {
        "file-permissions": f"{TYPE_BITS[node.kind] | node.mode:07o}",
        "file-owner": str(node.uid),
        "file-group": str(node.gid),
    }
    if node.kind == FILE and node.mtime_ns is not None:
        wanted["file-mtime"] = f"{node.mtime_ns}ns"
    for name, value in wanted.items():
        if item.metadata.get(name) != value:
            yield f"has {name} {item.metadata.get(name)!r}, not {value!r}"
    plain = {
        name: value.decode() for name, value in node.xattrs.items() if value and value.isalnum() and value.isascii()
    }
    for name, value in plain.items():
        if item.metadata.get(name) != value:
            yield f"has {name} {item.metadata.get(name)!r}, not {value!r}"
