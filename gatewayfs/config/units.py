"""Numbers as people write them: sizes, rates, durations, file modes.

Every parser takes what TOML or the command line gave (text or a number) and returns one plain value with a fixed unit:
bytes, bytes per second, seconds, mode bits. A parser that cannot read its input raises ``ValueError`` with a sentence
that says how to write it; the caller adds the option's name. Every ``format_*`` is the exact inverse: parsing its
result gives the same number again.
"""

import re

_NUMBER = r"(\d+(?:\.\d+)?)"
_SIZE = re.compile(_NUMBER + r"\s*([A-Za-z]*)")
_DURATION_PART = re.compile(_NUMBER + r"\s*(ms|s|m|h|d)\s*")

# The bare letter means the binary unit, as it does for truncate(1), systemd and qemu.
_BINARY: dict[str, int] = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{letter: factor for letter, factor in _BINARY.items() if letter},
    **{f"{letter}ib": factor for letter, factor in _BINARY.items() if letter},
    **{f"{letter}b": 1000**power for power, letter in enumerate(_BINARY) if letter},
}
_BIT_UNITS: dict[str, int] = {f"{letter}bit": 1000**power for power, letter in enumerate(_BINARY)}
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

SIZE_HELP = 'write a size like "64MiB", "1.5 GiB", "5MB" or a number of bytes'
RATE_BYTES_PER_S_MIN = 6400
"""51,200 bit/s, the smallest limit that AWS's schedules know. Below, single request heads take noticeable time."""

RATE_BYTES_PER_S_MAX = 1 << 40
"""More than any line: what is larger is a slip of the pen."""

RATE_HELP = 'write a rate like "40Mbit", "5MB/s" or a number of bytes per second'
DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")

DURATION_HELP = 'write a duration like "500ms", "2s", "5m", "1h", "1d" or a number of seconds'
MODE_HELP = 'write the octal digits in quotes, like "0666"'


def parse_size(value: object) -> int:
    """Return bytes. Units: B, kB, MB, ... (powers of 1000), KiB, MiB, ... and K, M, ... (powers of 1024)."""
    number, unit = _split(value, SIZE_HELP)
    factor = _SIZE_UNITS.get(unit.lower())
    if factor is None:
        raise ValueError(SIZE_HELP)
    return _whole(number, factor, SIZE_HELP)


def parse_rate(value: object) -> int:
    """Return bytes per second. ``bit`` units are powers of 1000; a size with or without "/s" is bytes per second."""
    text = value
    if isinstance(value, str):
        text = re.sub(r"(?<=[A-Za-z])bps$", "bit", value.strip())  # Mbps is how network people write Mbit/s
        text = re.sub(r"\s*/\s*s$", "", str(text))
    number, unit = _split(text, RATE_HELP)
    bits = _BIT_UNITS.get(unit.lower())
    if bits is not None:
        return round(float(number) * bits / 8)
    factor = _SIZE_UNITS.get(unit.lower())
    if factor is None:
        raise ValueError(RATE_HELP)
    return _whole(number, factor, RATE_HELP)


def parse_rate_limit(value: object) -> int | None:
    """Return bytes per second, None for "off"."""
    if isinstance(value, str) and value.strip().lower() == "off":
        return None
    try:
        rate = parse_rate(value)
    except ValueError:
        raise ValueError(f'{RATE_HELP}, or "off" for no limit') from None
    if rate < RATE_BYTES_PER_S_MIN:
        raise ValueError(f'too low; at least {RATE_BYTES_PER_S_MIN * 8 / 1000:g}kbit, or "off" for no limit')
    if rate > RATE_BYTES_PER_S_MAX:
        raise ValueError('too high for any line; write "off" for no limit')
    return rate


def parse_duration(value: object) -> float:
    """Return seconds. Parts may follow each other: "1h30m"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < float("inf"):
            raise ValueError(DURATION_HELP)
        return float(value)
    if not isinstance(value, str):
        raise ValueError(DURATION_HELP)
    text = value.strip()
    if re.fullmatch(_NUMBER, text):
        return float(text)
    parts = _DURATION_PART.findall(text)
    if not parts or _DURATION_PART.sub("", text):
        raise ValueError(DURATION_HELP)
    return float(sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts))


def parse_mode(value: object) -> int:
    """Return permission bits, 0 to 0o7777. Bare numbers are refused: ``666`` in TOML is decimal, a silent trap."""
    if not isinstance(value, str) or not re.fullmatch(r"(0o|0)?[0-7]{3,4}", value.strip()):
        raise ValueError(MODE_HELP)
    return int(value.strip().removeprefix("0o"), 8)


def format_size(value_bytes: int) -> str:
    """The largest binary unit that divides the number: 8388608 -> "8MiB"."""
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value_bytes and value_bytes % factor == 0:
            return f"{value_bytes // factor}{unit}"
    return str(value_bytes)


def format_rate(value_bytes_per_s: int) -> str:
    """The largest unit of bits that divides the number: 5000000 -> "40Mbit"; else bytes."""
    bits = value_bytes_per_s * 8
    for unit, factor in (("Gbit", 1000**3), ("Mbit", 1000**2), ("kbit", 1000)):
        if bits and bits % factor == 0:
            return f"{bits // factor}{unit}"
    return str(value_bytes_per_s)


def format_duration(value_s: float) -> str:
    """The largest unit that divides the number: 3600.0 -> "1h"."""
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if value_s and value_s % factor == 0:
            return f"{int(value_s) // factor}{unit}"
    return f"{value_s:g}s"


def format_mode(value: int) -> str:
    """Four octal digits: 0o666 -> "0666"."""
    return f"{value:04o}"


def _split(value: object, help_text: str) -> tuple[str, str]:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(help_text)
    found = _SIZE.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(help_text)
    return found[1], found[2]


def _whole(number: str, factor: int, help_text: str) -> int:
    """The product must be a whole number of bytes: "0.3B" is a slip, "1.1MiB" rounds and is meant."""
    if factor == 1 and "." in number and float(number) != int(float(number)):
        raise ValueError(help_text)
    return round(float(number) * factor) if "." in number else int(number) * factor


def parse_moment(value: object) -> tuple[frozenset[int], int]:
    """ "Sat,Sun 12:30" or "daily 03:00" -> days (0 is Sunday) and the minute of the day. Raises ValueError."""
    form = re.fullmatch(r"(\S+)\s+([01]?\d|2[0-3]):([0-5]\d)", value) if isinstance(value, str) else None
    names = form[1].split(",") if form is not None else []
    if form is None or not (names == ["daily"] or set(names) <= set(DAYS)):
        raise ValueError(f'write days ({", ".join(DAYS)}, or daily) and a time, like "daily 03:00" or "Sat,Sun 12:30"')
    days = range(7) if names == ["daily"] else map(DAYS.index, names)
    return frozenset(days), int(form[2]) * 60 + int(form[3])
