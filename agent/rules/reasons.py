"""Say to people why a backup stays or goes."""

from collections.abc import Sequence
from datetime import datetime, tzinfo

from agent.rules.keeping import Age, Backup, Reason, Window
from agent.rules.words import count


def words(
    one: Backup, why: Reason, window: Window | None, following: str, drilled: Sequence[str], now: float, zone: tzinfo
) -> str:
    """Say why a backup stays or goes, as far as its own location can tell.

    Args:
        one: the backup.
        why: the same as a value.
        window: its tier's; None for a tier that is kept for ever.
        following: id of the next newer good one of its tier, if there is one.
        drilled: the collections whose newest passed drill it holds.
        now: epoch seconds.
        zone: the time zone of dates and ages.
    """
    if why is Reason.NOT_OURS:
        return "not ours"
    if why is Reason.PINNED:
        return _pinned(one, zone)
    if window is None:
        return f"{one.tier} ones are kept for ever"
    if why is Reason.UNPROVED:
        return "not proved yet"
    if why is Reason.DRILLED:
        return f"the newest drilled one of {listed(drilled)}"
    if why is Reason.MINIMUM:
        return _newest(one.tier, 1 if one.started == window.newest else window.policy.minimum)
    keep = window.policy.keep
    if why is Reason.OLDEST_POINT:
        until = f"until {following} is old enough, it is the oldest point to go back to"
        return f"the newest one that is at least {keep} old: {until}"
    if isinstance(keep, Age):
        return _by_age(one, why, keep, _age(one.started, now, zone))
    return _by_number(one, why, keep, max(keep, window.policy.minimum))


def listed(names: Sequence[str], most: int = 3) -> str:
    """Some names as people list them: articles, users and 4 more."""
    shown = [*names[:most], *([f"{len(names) - most:,} more"] if len(names) > most else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)


def _by_age(one: Backup, why: Reason, keep: Age, age: str) -> str:
    kept = f"{one.tier} ones are kept {keep}"
    if why is Reason.SPOILT_YOUNG:
        return f"{_state(one)}; {age}, {kept}"
    if why is Reason.SPOILT_ALONE:
        return f"{_state(one)}; kept until a newer {one.tier} one is good"
    if why is Reason.SPOILT_OUTLIVED:
        return f"{_state(one)}, and {age}; {kept}, and a newer one is good"
    return f"{age}; {kept}"


def _by_number(one: Backup, why: Reason, keep: int, most: int) -> str:
    if why is Reason.NEWEST:
        return _newest(one.tier, keep)
    if why is Reason.SPOILT_YOUNG:
        return f"{_state(one)}; kept until {_good(one.tier, keep)}"
    if why is Reason.SPOILT_OUTLIVED:
        return f"{_state(one)}, and {_good(one.tier, keep)}"
    return f"{_good(one.tier, most)}, and no more are kept"


def _good(tier: str, n: int) -> str:
    return f"{count(n, f'newer {tier} one')} {'is' if n == 1 else 'are'} good"


def _newest(tier: str, n: int) -> str:
    return f"the newest good {tier} one" if n == 1 else f"one of the {n} newest good {tier} ones"


def _state(one: Backup) -> str:
    return "incomplete" if one.state == "good" else one.state


def _age(started: float, now: float, zone: tzinfo) -> str:
    """Whole days by the wall clock, as ages are counted: a day with a change of clocks is one too."""
    then, today = (datetime.fromtimestamp(at, zone).replace(tzinfo=None) for at in (started, now))
    days = (today - then).days
    return f"{count(days, 'day')} old" if days > 0 else "less than a day old"


def _pinned(one: Backup, zone: tzinfo) -> str:
    pin = one.pin
    until = f" until {datetime.fromtimestamp(pin.until, zone):%Y-%m-%d}" if pin and pin.until is not None else ""
    return f"pinned{until}" + (f": {pin.because}" if pin and pin.because else "")
