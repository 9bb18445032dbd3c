"""Tables for spreadsheets: CSV that calculates nothing."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

# How spreadsheets begin what they calculate; a collection may be called like that.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def written(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Lines of CSV, the heads first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_cell(one) for one in row] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
