"""Figures for people: a name's ending says the unit, so a new figure needs no code here.

``_bytes`` 1.5 MiB, ``_bytes_per_s`` 3.2 MB/s (links are sold in powers of 1000), ``_s`` 2m 5s, ``_ns`` a UTC time, the
rest as it is. Whatever a newer gateway sends is shown, whatever an older one does not send is left out.
"""

import time
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

INDENT = "  "
LIST_LINES_MAX = 20
"""Longer lists are for --json."""


def console(*, stderr: bool = False) -> Console:
    """Colours on a terminal only (and not with NO_COLOR); long paths are never broken by inserted newlines."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def human_bytes(count: float) -> str:
    """1536 -> "1.5 KiB"."""
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def human_rate(per_s: float) -> str:
    """3200000.0 -> "3.2 MB/s"."""
    return _scaled(per_s, 1000, ("B/s", "kB/s", "MB/s", "GB/s"))


def human_duration(seconds: float) -> str:
    """125.0 -> "2m 5s", 0.0123 -> "12.3 ms"; two units are enough."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.2g}s" if seconds < 10 else f"{seconds:.0f}s"
    left, parts = round(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= length:
            parts.append(f"{left // length}{unit}")
            left %= length
    return " ".join(parts[:2])


def human_time(wall_ns: float) -> str:
    """Nanoseconds since 1970 -> UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(wall_ns / 1e9))


def plural(count: int, noun: str) -> str:
    """1 file, 2 files, 3 copies."""
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else many}"


_ENDINGS: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("_bytes_per_s", human_rate),
    ("_bytes", human_bytes),
    ("_ns", human_time),
    ("_s", human_duration),
)
_PLAIN = frozenset(("pid", "target"))
"""Numbers that are names: no thousands separators."""


_HEADS = ("path", "key", "reason", "message")
"""What a list's item is about, and what is to be said of it."""


def value_text(name: str, value: Any) -> str:
    """One figure, in the unit its name ends with."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "-"
    if isinstance(value, int | float) and name not in _PLAIN:
        for ending, worded in _ENDINGS:
            if f"_{name}".endswith(ending):
                return worded(value)
        return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
    return str(value)


def label(name: str, neighbours: Container[str] = ()) -> str:
    """``oldest_age_s`` -> "oldest age": the value shows the unit; unless a neighbour has that very label."""
    for ending, _ in _ENDINGS:
        short = name.removesuffix(ending)
        if short not in (name, "") and short not in neighbours:
            return short.replace("_", " ")
    return name.replace("_", " ")


def lines_of(section: Mapping[str, Any], depth: int = 1) -> Iterator[str]:
    """A section's figures, one per line, aligned; nested ones indented below their name. Markup-safe."""
    plain = {name: value for name, value in section.items() if not isinstance(value, Mapping | list | tuple)}
    labels = {name: label(name, section) for name in section}
    width = max((len(labels[name]) for name in plain), default=0)
    for name, value in plain.items():
        yield f"{INDENT * depth}[dim]{labels[name]:{width}}[/dim]  {escape(value_text(name, value))}"
    for name, value in section.items():
        if isinstance(value, Mapping | list | tuple) and value:
            yield f"{INDENT * depth}[dim]{labels[name]}[/dim]"
            yield from _nested(value, depth + 1)


def _nested(value: Mapping[str, Any] | list[Any] | tuple[Any, ...], depth: int) -> Iterator[str]:
    """A mapping of mappings is a table, a line each; a mapping of figures a section; a list a line for each item."""
    if not isinstance(value, Mapping):
        items = [one_line(item) for item in value]
    elif all(isinstance(item, Mapping) for item in value.values()):
        items = [f"{label(name)}: {one_line(item)}" for name, item in value.items()]
    else:
        yield from lines_of(value, depth)
        return
    for item in items[:LIST_LINES_MAX]:
        yield f"{INDENT * depth}{escape(item)}"
    if len(items) > LIST_LINES_MAX:
        yield f"{INDENT * depth}and {len(items) - LIST_LINES_MAX:,} more (--json shows all)"


def one_line(item: Any) -> str:
    """A list's item: text as it is, a mapping as ``path: reason (other 1, figures 2)``."""
    if not isinstance(item, Mapping):
        return str(item)
    flat: dict[str, Any] = {}
    for name, value in item.items():
        flat |= value if isinstance(value, Mapping) else {name: value}
    head = ": ".join(str(flat[name]) for name in _HEADS if flat.get(name))
    rest = {name: value for name, value in flat.items() if name not in _HEADS and value}
    figures = ", ".join(f"{label(name)} {value_text(name, value)}" for name, value in rest.items())
    return f"{head} ({figures})" if head and figures else head or figures


def _scaled(count: float, step: int, units: tuple[str, ...]) -> str:
    size = float(count)
    for unit in units[:-1]:
        if abs(size) < step:
            return f"{size:.0f} {unit}" if unit == units[0] else f"{size:.1f} {unit}"
        size /= step
    return f"{size:.1f} {units[-1]}"
