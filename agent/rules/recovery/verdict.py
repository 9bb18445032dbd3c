"""Say whether a restore worked."""

from collections.abc import Sequence

from agent.rules.rehearsal import Judgement
from agent.rules.words import count

_STATES = {"passed": "good", "failed": "bad"}


def verdict(judged: Judgement, low: int | None, high: int | None, unready: Sequence[str] = ()) -> tuple[str, str]:
    """State and reason: good, bad, or unknown where the server was asked and did not tell.

    Args:
        judged: what comparing the copy with what was recorded has shown.
        low: the least number of points it has to have; None if nobody counted.
        high: the greatest.
        unready: what the collection on the server was still not, in words.
    """
    state = _STATES.get(judged.state, "unknown")
    parts = [_points(judged.points, low, high)]
    if judged.asked:
        parts.append(f"{judged.matched} of {count(judged.asked, 'probe')} answered as recorded")
    if judged.compared:
        parts.append(f"{judged.same} of {count(judged.compared, 'point')} hold what they held")
    if state != "good":
        parts.append(judged.why)
    elif unready:
        state = "bad"
    return state, "; ".join([*filter(None, parts), *unready])


def _points(points: int | None, low: int | None, high: int | None) -> str:
    # Without separators: it is looked for by people and by programs.
    if points is None:
        return ""
    if high is None:
        return f"restored {points} points; how many there were was not recorded"
    return f"restored {points} of {high if low in {None, high} else f'{low} to {high}'} points"
