"""What a measurement says: ours beside theirs, their ratio round by round, and whether that meets the goal."""

from collections.abc import Callable, Sequence
from math import inf
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

HEADS = ("WHAT", "OURS", "THEIRS", "RATIO (MIN-MAX)", "GOAL", "")


class Figure(Struct, frozen=True):
    """One line of the table; `met` is None where there is no goal or nothing was measured."""

    what: str
    ours: str = "-"
    theirs: str = "-"
    ratio: str = "-"
    goal: str = "-"
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """The line as it is printed."""
        verdict = {True: "met", False: "NOT MET", None: ""}[self.met]
        return (self.what, self.ours, self.theirs, self.ratio, self.goal, verdict)


def ratio(
    what: str,
    pairs: Sequence[tuple[float, float]],
    show: Callable[[float], str],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """Ours over theirs in each pair; the median of these ratios is held against the goal."""
    each = [_over(ours, theirs) for ours, theirs in pairs]
    middle = median(each)
    goal, met = "-", None
    if at_least is not None:
        goal, met = f">= {at_least:g}x", middle >= at_least
    elif at_most is not None:
        goal, met = f"<= {at_most:g}x", middle <= at_most
    return Figure(
        what,
        show(median(ours for ours, _ in pairs)),
        show(median(theirs for _, theirs in pairs)),
        f"{middle:.3g} ({min(each):.3g}-{max(each):.3g})",
        goal,
        met,
    )


def quicker(what: str, walls: Sequence[tuple[float, float]], at_least: float) -> Figure:
    """How many times quicker ours is than theirs, in seconds; the median of these ratios is held against the goal."""
    turned = ratio(what, [(theirs, ours) for ours, theirs in walls], seconds, at_least=at_least)
    return replace(turned, ours=turned.theirs, theirs=turned.ours)


def _over(ours: float, theirs: float) -> float:
    # Something idle may take nothing at all while it is looked at.
    return ours / theirs if theirs else inf if ours else 1.0


def below(
    what: str, pairs: Sequence[tuple[float, float]], show: Callable[[float], str], limit: float, *, absent: str = ""
) -> Figure:
    """Ours against a limit of its own, with the ratio to theirs beside it; `absent` is why there are none."""
    middle = median(ours for ours, _ in pairs)
    goal, met = f"<= {show(limit)}", middle <= limit
    if absent:
        return Figure(what, show(middle), absent, "-", goal, met)
    beside = ratio(what, pairs, show)
    return Figure(what, beside.ours, beside.theirs, beside.ratio, goal, met)


def skipped(what: str, why: str) -> Figure:
    """A line for what could not be measured here."""
    return Figure(what, f"skipped: {why}")


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines, in columns as wide as they need; a skipped one takes the whole line."""
    rows = [HEADS, *(one.cells() for one in figures)]
    full = [row for row in rows if row[2:] != Figure("").cells()[2:]]
    widths = [max(len(row[i]) for row in (rows if i == 0 else full)) for i in range(len(HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def rate(bytes_per_second: float) -> str:
    """A throughput: 1.42 GB/s."""
    return f"{bytes_per_second / 1e9:.3g} GB/s"


def milliseconds(seconds: float) -> str:
    """A duration in milliseconds."""
    return f"{seconds * 1e3:.0f} ms"


def seconds(value: float) -> str:
    """A duration in seconds."""
    return f"{value:.3g} s"


def mebibytes(size: float) -> str:
    """A size in MiB."""
    return f"{size / 2**20:.1f} MiB"


def percent(share: float) -> str:
    """A share of one core."""
    return f"{share * 100:.3f} %"


def per_second(number: float) -> str:
    """How often something happens."""
    return f"{number:.2f}/s"
