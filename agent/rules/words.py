"""How figures and names are written for people."""

from datetime import UTC, datetime, tzinfo


def size(n: float) -> str:
    """Bytes in the largest binary unit that keeps three digits: 1.5 GiB."""
    n = float(n)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(n) < 999.5 or unit == "TiB":
            break
        n /= 1024
    return f"{n:.0f} {unit}" if unit == "B" or abs(n) >= 100 else f"{n:.3g} {unit}"


def span(seconds: float) -> str:
    """A duration as people say it: 350 ms, 14 s, 5 min, 3 h 20 min, 2 days."""
    s = abs(seconds)
    if s < 1:
        return f"{s * 1000:.0f} ms"
    if s < 10:
        return f"{s:.1f} s"
    if s < 100:
        return f"{s:.0f} s"
    if s < 3600:
        return f"{s / 60:.0f} min"
    if s < 48 * 3600:
        hours, minutes = divmod(round(s / 60), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{s / 86400:.0f} days"


def count(n: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 archive, 12,000 archives."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def rfc3339(at: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC, with milliseconds; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(at: float, zone: tzinfo) -> str:
    """Epoch seconds as a reader's wall clock shows them: Mon 23 Nov 02:00:05."""
    return datetime.fromtimestamp(at, zone).strftime("%a %d %b %H:%M:%S")


def printable(name: str) -> str:
    r"""A file name that is safe to print, store and compare, and can be turned back by `raw`.

    Bytes that are not UTF-8 (surrogates, as `os.fsdecode` gives them), control characters and
    the backslash itself are written as `\xNN`.
    """
    if name.isprintable() and "\\" not in name:
        return name
    out = []
    for char in name:
        if char.isprintable() and char != "\\":
            out.append(char)
        else:
            out.extend(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
    return "".join(out)


def raw(name: str) -> str:
    r"""The file name that `printable` was given."""
    if "\\" not in name:
        return name
    head, *rest = name.split("\\x")
    data = head.encode()
    for part in rest:
        data += bytes.fromhex(part[:2]) + part[2:].encode()
    return data.decode("utf-8", "surrogateescape")
