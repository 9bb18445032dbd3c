"""Tell vectors that were lost or overwritten: zeros, no numbers, the same one again and again.

All of that may be as it should be, and what was recorded tells: points that are as they were show how much of it there
was. Beyond doubt more of it among the others is damage.
"""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from agent.rules.comparison import more
from agent.rules.rehearsed import Marks, Part
from agent.rules.words import count

# So many of one and the same vector, and so great a share, are worth a word.
_CROWD, _SHARE = 10, 0.05
_KINDS = {
    "zeroed": "nothing but zeros in",
    "odd": "a value that is no number, or infinite, in",
    "alike": "one and the same vector in",
}


class Mark(Struct, frozen=True):
    """Something about vectors in words, and whether it is damage."""

    why: str
    damage: bool


def marks(parts: Sequence[Part], *, recorded: bool) -> Iterator[Mark]:
    """Look at what the vectors of all shards have in common; `recorded` says whether points were."""
    for name in sorted({name for part in parts for name in part.vectors}):
        all_of, known = _sums(parts, name), _sums([part.recorded for part in parts], name)
        for kind, words in _KINDS.items():
            number, of = all_of[kind], all_of["vectors"]
            if not number:
                continue
            others, rest = number - known[kind], of - known["vectors"]
            if not recorded:
                damage, worth = _bare(kind, number, of)
            elif known["vectors"]:
                damage = worth = _against(kind, known[kind], known["vectors"], others, rest)
            else:
                damage, worth = False, kind != "alike"
            if worth:
                which = f"{number:,} of {count(of, 'vector')}{f' {name!r}' if name else ''}"
                yield Mark(f"{words} {which}", damage)


def _bare(kind: str, number: int, of: int) -> tuple[bool, bool]:
    """Whether it is damage where nothing was recorded, and whether it is worth a word."""
    match kind:
        case "zeroed":
            return number * 2 >= of, True
        case "odd":
            return True, True
    return False, number >= max(_CROWD, _SHARE * of)


def _against(kind: str, was: int, among: int, others: int, rest: int) -> bool:
    """Whether there is more of it than those show that were recorded."""
    if kind == "odd" and not was:
        return others > 0
    return more(was, among, others, rest) and (kind != "alike" or others >= max(_CROWD, _SHARE * rest))


def _sums(parts: Sequence[Part] | Sequence[Marks], name: str) -> dict[str, int]:
    return {kind: sum(getattr(part, kind).get(name, 0) for part in parts) for kind in ("vectors", *_KINDS)}
