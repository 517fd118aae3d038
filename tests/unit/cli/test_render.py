"""Figures for people."""

import pytest

from gatewayfs.cli import render


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("used_bytes", 0, "0 B"),
        ("used_bytes", 1536, "1.5 KiB"),
        ("used_bytes", 5 << 40, "5.0 TiB"),
        ("upload_bytes_per_s", 3_200_000, "3.2 MB/s"),
        ("oldest_s", 0.25, "250 ms"),
        ("oldest_s", 125, "2m 5s"),
        ("oldest_s", 90_061, "1d 1h"),
        ("since_ns", 1_767_323_045_000_000_000, "2026-01-02 03:04:05Z"),
        ("queued", 1234567, "1,234,567"),
        ("pid", 1234567, "1234567"),
        ("seconds_max_s", 9.87, "9.9s"),
        ("ratio", 0.12345, "0.123"),
        ("reachable", True, "yes"),
        ("prefix", "", "-"),
        ("error", None, "-"),
        ("oldest_s", None, "-"),
    ],
)
def test_a_figure_is_shown_in_the_unit_its_name_ends_with(name: str, value: object, text: str) -> None:
    assert render.value_text(name, value) == text


def test_a_section_is_aligned_and_shows_whatever_it_holds() -> None:
    section = {
        "queued_bytes": 2048,
        "oldest_s": 3,
        "capabilities": {"put_if_match": True},
        "parked": [
            {"target": 7, "key": "a[b]", "parked": {"reason": "AccessDenied", "since_ns": 1_767_323_045 * 10**9}}
        ],
        "empty": [],
    }
    assert list(render.lines_of(section)) == [
        "  [dim]queued[/dim]  2.0 KiB",
        "  [dim]oldest[/dim]  3s",
        "  [dim]capabilities[/dim]",
        "    [dim]put if match[/dim]  yes",
        "  [dim]parked[/dim]",
        r"    a\[b]: AccessDenied (target 7, since 2026-01-02 03:04:05Z)",
    ]


def test_a_table_takes_a_line_for_each_row_and_two_figures_never_share_a_label() -> None:
    section = {"entries": 2, "entries_bytes": 6, "operations": {"head": {"requests": 3, "busy_s": 2}, "get": {}}}
    assert list(render.lines_of(section)) == [
        "  [dim]entries      [/dim]  2",
        "  [dim]entries bytes[/dim]  6 B",
        "  [dim]operations[/dim]",
        "    head: requests 3, busy 2s",
        "    get: ",
    ]


def test_a_long_list_ends_with_how_much_is_not_shown() -> None:
    lines = list(render.lines_of({"keys": [str(n) for n in range(25)]}))
    assert len(lines) == 1 + render.LIST_LINES_MAX + 1
    assert lines[-1].strip() == "and 5 more (--json shows all)"


def test_nouns_count() -> None:
    assert [render.plural(1, "file"), render.plural(2000, "file"), render.plural(2, "entry")] == [
        "1 file",
        "2,000 files",
        "2 entries",
    ]
