"""Make text from jobs safe for email headers, terminals and pages; and times for people."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

_UNSAFE = (
    *range(0x20), 0x7F, *range(0x80, 0xA0),  # control characters, ESC among them
    0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A),  # line ends, bidi controls
)  # fmt: skip
_ESCAPES = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _UNSAFE}
_ESCAPES_IN_BLOCKS = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\n\t"}


def escape_controls(text: str) -> str:
    """Escape control characters, surrogates and bidirectional controls; keep lines and tabs."""
    text = text.replace("\r\n", "\n").encode("utf-8", "backslashreplace").decode()
    return text.translate(_ESCAPES_IN_BLOCKS)


def one_line(text: str, max_length: int = 200) -> str:
    """Escape the same and join all lines to one, for a header or a name."""
    line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    line = line.translate(_ESCAPES)
    return line if len(line) <= max_length else line[: max_length - 1] + "…"


def storable(text: str) -> str:
    """Remove NUL and surrogates, which databases reject, and shorten to 500 characters."""
    return text.replace("\0", "").encode("utf-8", "backslashreplace").decode()[:500]


def zone_or_utc(name: str) -> ZoneInfo:
    """The time zone of this name; UTC if there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def local_text(moment: datetime, zone: str) -> str:
    """A time in a zone, with the name of the zone: ``2026-03-01 13:00 CET``."""
    return f"{moment.astimezone(zone_or_utc(zone)):%Y-%m-%d %H:%M %Z}"
