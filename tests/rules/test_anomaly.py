import random
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.rules import anomaly
from agent.rules.anomaly import RULES, Measured, judge
from agent.rules.finding import Finding, Level
from agent.rules.incident import Change, Incident, Policy, turn

MIB, GIB = 1 << 20, 1 << 30
DAY = 86_400.0
BEGAN = 1_795_485_600.0  # Tue 24 Nov 2026 02:00:00 UTC
FIGURES = ("points", "raw_size", "stored_size", "seconds")


def backup(day: int, **figures: Any) -> Measured:
    usual = {"points": 10_000, "raw_size": 4 * GIB, "stored_size": 3 * GIB, "seconds": 300.0}
    return Measured(backup=f"b{day}", at=BEGAN + day * DAY, **(usual | figures))


def steady(days: int = 40, **figures: Any) -> list[Measured]:
    return [backup(day, **figures) for day in range(days)]


def alerts(history: Sequence[Measured]) -> list[Finding]:
    return [one for one in judge("docs", history, UTC) if one.level]


def changes(history: Sequence[Measured], rule: str) -> list[tuple[int, Change]]:
    """What became of a rule's incident, by the number of the backup."""
    told: list[tuple[int, Change]] = []
    incident: Incident | None = None
    for number in range(1, len(history) + 1):
        for finding in judge("docs", history[:number], UTC):
            if finding.rule == rule:
                step = turn(incident, finding, history[number - 1].at, Policy())
                incident = None if step.incident is None or step.incident.resolved else step.incident
                told += [(number - 1, step.change)] if step.change else []
    return told


def ordinary(seed: int, days: int = 90) -> list[Measured]:
    """Backups of a collection that grows, is quieter at weekends, and is never twice the same."""
    lot = random.Random(seed)  # noqa: S311 - figures to test with
    growth, linear, first = lot.uniform(0, 0.02), lot.random() < 0.5, lot.randrange(7)
    weekend = {one: lot.uniform(low, 1) for one, low in (("points", 0.75), ("size", 0.75), ("seconds", 0.6))}
    noise = {one: lot.uniform(0, most) for one, most in (("points", 0.03), ("size", 0.06), ("seconds", 0.2))}
    points, packed = 10 ** lot.uniform(3, 7), lot.uniform(0.2, 0.9)
    history = []
    for day in range(days):
        grown = 1 + growth * day if linear else (1 + growth) ** day
        dip = {one: factor if (day + first) % 7 >= 5 else 1.0 for one, factor in weekend.items()}
        raw = points * grown * 3000 * dip["size"] * lot.lognormvariate(0, noise["size"])
        history.append(
            Measured(
                backup=f"b{day}",
                at=BEGAN + day * DAY + lot.uniform(0, 1800),
                points=round(points * grown * dip["points"] * lot.lognormvariate(0, noise["points"])),
                raw_size=round(raw),
                stored_size=round(raw * packed * lot.lognormvariate(0, 0.02)),
                seconds=(5 + raw / 2e7) * dip["seconds"] * lot.lognormvariate(0, noise["seconds"]),
            )
        )
    return history


@pytest.mark.parametrize("first", range(0, 1000, 250))
def test_ninety_ordinary_days_raise_no_alarm_whichever_of_a_thousand_they_are(first: int) -> None:
    alarming = {
        (seed, day)
        for seed in range(first, first + 250)
        for rows in anomaly._standings(ordinary(seed))
        for day, one in enumerate(rows)
        if one and one.alarming
    }
    assert alarming == set()


@pytest.mark.parametrize("seed", range(4))
def test_a_day_is_judged_the_same_when_it_is_the_newest_and_later_on(seed: int) -> None:
    history = ordinary(seed, 60)
    history[30:33] = [replace(one, points=10 * (one.points or 0)) for one in history[30:33]]
    rows = anomaly._standings(history)[0]
    for day, one in enumerate(rows):
        level = judge("docs", history[: day + 1], UTC)[0].level
        assert level is (Level.WARNING if one and one.alarming else Level.OK)
    assert [day for day, one in enumerate(rows) if one and one.alarming] == [30, 31, 32]


@pytest.mark.parametrize("factor", [0.4, 3])
@pytest.mark.parametrize("days", [14, 30, 89])
@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("points", "points_changed"),
        ("raw_size", "size_changed"),
        ("stored_size", "size_changed"),
        ("seconds", "duration_changed"),
    ],
)
def test_less_than_half_and_three_times_as_much_is_one_alert(field: str, rule: str, days: int, factor: float) -> None:
    history = steady(days)
    last = backup(days, **{field: type(getattr(history[0], field))(getattr(history[0], field) * factor)})
    (alert,) = alerts([*history, last])
    assert (alert.rule, alert.subject, alert.level) == (rule, "docs", Level.WARNING)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("factor", [0.4, 3])
def test_noise_and_growth_do_not_hide_that_points_are_gone_or_came(seed: int, factor: float) -> None:
    history = ordinary(seed)
    last = replace(history[-1], points=round((history[-1].points or 0) * factor))
    assert [one.rule for one in alerts([*history[:-1], last])] == ["points_changed"]


def test_an_alert_says_what_was_usual_by_how_much_it_differs_since_when_and_what_to_do() -> None:
    (fewer,) = alerts([*steady(), backup(40, points=4_000), backup(41, points=4_000)])
    assert fewer.why == (
        "docs has 4,000 points, usually about 10,000 points: 60 % fewer, since Sun 03 Jan 02:00:00 (backup b40)"
    )
    assert fewer.hint == (
        "If that was meant to happen, nothing is to be done: what stays for 5 backups is usual. If not, look at what"
        " writes to docs. `snapward keep b39` keeps the last backup from before."
    )
    why = {
        "stored_size": "the backup of docs takes 9 GiB, usually about 3 GiB: 3.0 times as much",
        "raw_size": "the snapshot of docs has 12 GiB, usually about 4 GiB: 3.0 times as much",
        "seconds": "the backup of docs took 15 min, usually about 5 min: 3.0 times as long",
    }
    for field, words in why.items():
        (more,) = alerts([*steady(), backup(40, **{field: 3 * getattr(backup(40), field)})])
        assert more.why == f"{words}, since Sun 03 Jan 02:00:00 (backup b40)"


def test_what_goes_along_with_the_points_is_told_with_them_only() -> None:
    tripled = backup(40, points=30_000, raw_size=12 * GIB, stored_size=9 * GIB, seconds=900.0)
    (alert,) = alerts([*steady(), tripled])
    assert alert.rule == "points_changed"
    assert judge("docs", [*steady(), tripled], UTC)[1].why.endswith("; it goes along with what else changed")


def test_more_than_the_points_explain_is_told_of_its_own() -> None:
    odd = backup(40, points=4_000, raw_size=GIB // 16, stored_size=3 * GIB // 64)
    assert [one.rule for one in alerts([*steady(), odd])] == ["points_changed", "size_changed"]
    opposite = backup(40, points=30_000, raw_size=GIB, stored_size=3 * GIB // 4)
    assert [one.rule for one in alerts([*steady(), opposite])] == ["points_changed", "size_changed"]


@pytest.mark.parametrize("behind", range(6))
def test_space_that_a_server_frees_days_after_the_points_went_is_no_second_alert(behind: int) -> None:
    history = [
        *steady(),
        *(backup(day, points=4_000) for day in range(40, 40 + behind)),
        *(
            backup(day, points=4_000, raw_size=4 * GIB * 2 // 5, stored_size=3 * GIB * 2 // 5)
            for day in range(40 + behind, 60)
        ),
    ]
    assert [change for _, change in changes(history, "points_changed")] == [Change.OPENED, Change.RESOLVED]
    assert changes(history, "size_changed") == []


def test_data_that_no_longer_packs_is_an_alert_before_its_size_is() -> None:
    history = steady(stored_size=int(2.4 * GIB))
    (alert,) = alerts([*history, backup(40, stored_size=int(3.4 * GIB))])
    assert alert.rule == "ratio_changed"
    assert alert.why.startswith("docs packs to 85 % of its size, usually about 60 % of its size: 42 % more, since")
    (larger,) = alerts([*history, backup(40, stored_size=4 * GIB)])
    assert larger.rule == "size_changed"


@pytest.mark.parametrize(
    ("field", "usual", "now"),
    [
        ("stored_size", 20 * MIB, 22 * MIB),
        ("stored_size", 3 * MIB, 9 * MIB),
        ("stored_size", 3 * GIB, 4 * GIB - MIB),
        ("raw_size", 40 * MIB, 100 * MIB),
        ("points", 10, 29),
        ("points", 1_000_000, 1_390_000),
        ("points", 1_000_000, 720_000),
        ("seconds", 9.0, 38.0),
        ("seconds", 3600.0, 7200.0),
    ],
)
def test_a_change_that_is_small_by_share_or_by_amount_is_no_alert(field: str, usual: float, now: float) -> None:
    small = {"raw_size": None, "stored_size": None} | {field: usual}
    assert alerts([*steady(**small), backup(40, **(small | {field: now}))]) == []


@given(st.lists(st.integers(0, 10**7), max_size=20), st.integers(1, 10**7))
def test_no_points_where_there_were_some_is_always_critical(earlier: list[int], some: int) -> None:
    history = [backup(day, points=points) for day, points in enumerate([*earlier, some, 0])]
    (alert,) = [one for one in alerts(history) if one.rule == "points_changed"]
    assert alert.level is Level.CRITICAL
    assert alert.why.startswith("docs has 0 points, usually about ")
    assert ": 100 % fewer, since " in alert.why


def test_a_collection_that_is_still_empty_and_one_that_is_being_filled_are_no_alert() -> None:
    empty = {"points": 0, "raw_size": 60_000, "stored_size": 9_000, "seconds": 1.0}
    assert alerts(steady(12, **empty)) == []
    history = steady(12, **empty) + [backup(day) for day in range(12, 30)]
    for number in range(12, 31):
        assert alerts(history[:number]) == []
    assert judge("docs", history[:13], UTC)[0].why.endswith("; it was empty, and is being filled")


@pytest.mark.parametrize("known", range(5))
def test_with_little_history_nothing_is_said(known: int) -> None:
    history = [*steady(known), backup(known, points=1, raw_size=1, stored_size=900 * GIB, seconds=9e6)]
    assert alerts(history) == []
    assert judge("docs", history, UTC)[0].why == "docs has 1 point; what is usual is known from 5 backups on"


def test_no_history_at_all_says_nothing() -> None:
    assert judge("docs", [], UTC) == []


def test_a_figure_that_nobody_measured_has_no_finding() -> None:
    bare = steady(points=None, raw_size=None, seconds=None)
    assert [one.rule for one in judge("docs", bare, UTC)] == ["size_changed"]
    (alert,) = alerts([*bare, backup(40, points=None, raw_size=None, seconds=None, stored_size=9 * GIB)])
    assert alert.why.startswith("the backup of docs takes 9 GiB")


def test_backups_that_were_not_measured_do_not_end_what_was_off() -> None:
    history = [*steady(), backup(40, points=4_000), backup(41, points=None), backup(42, points=4_000)]
    (alert,) = alerts(history)
    assert "(backup b40)" in alert.why


@pytest.mark.parametrize("factor", [0, 0.4, 3])
def test_a_step_that_stays_alerts_once_and_is_usual_after_five_backups(factor: float) -> None:
    history = steady() + [backup(day, points=int(10_000 * factor)) for day in range(40, 100)]
    assert changes(history, "points_changed") == [(40, Change.OPENED), (44, Change.RESOLVED)]
    back = history[:60] + [backup(day) for day in range(60, 70)]
    again = changes(back, "points_changed")[2:]
    assert again == ([] if factor == 0 else [(60, Change.OPENED), (64, Change.RESOLVED)])


def test_an_outlier_alerts_and_is_over_with_the_next_backup() -> None:
    history = [*steady(), backup(40, points=3_000), *(backup(day) for day in range(41, 60))]
    assert changes(history, "points_changed") == [(40, Change.OPENED), (41, Change.RESOLVED)]


def test_a_figure_at_the_border_does_not_flicker() -> None:
    history = steady() + [backup(day, points=6_900 + 400 * (day % 2)) for day in range(40, 60)]
    assert [change for _, change in changes(history, "points_changed")] == [Change.OPENED, Change.RESOLVED]


def test_what_falls_a_little_every_day_is_noticed() -> None:
    history = steady() + [backup(day, points=int(10_000 * 0.8 ** (day - 39))) for day in range(40, 50)]
    assert changes(history, "points_changed")[0] == (41, Change.OPENED)


@pytest.mark.parametrize("daily", [1.0, 1.03, 0.98])
def test_growth_and_its_end_are_no_alert(daily: float) -> None:
    growing = [backup(day, points=int(1e6 * daily**day), raw_size=int(4e9 * daily**day)) for day in range(60)]
    rest = [backup(day, points=growing[-1].points, raw_size=growing[-1].raw_size) for day in range(60, 90)]
    history = growing + rest
    assert all(alerts(history[:number]) == [] for number in range(1, 91, 3))


def test_a_collection_that_doubles_from_month_to_month_is_no_alert() -> None:
    history = [replace(backup(30 * month), points=1000 * 2**month) for month in range(24)]
    assert all(alerts(history[:number]) == [] for number in range(1, 25))


def test_a_day_of_the_week_that_is_always_low_is_an_alert_twice_at_the_most() -> None:
    history = [backup(day, points=3_000 if day % 7 == 6 else 10_000) for day in range(90)]
    opened = [day for day, change in changes(history, "points_changed") if change is Change.OPENED]
    assert opened == [6, 13]


def test_several_backups_at_nearly_the_same_time_say_nothing_about_the_next_month() -> None:
    history = [replace(backup(0, points=10_000 + 40 * one), at=BEGAN + 60 * one) for one in range(8)]
    assert alerts([*history, backup(31, points=10_400)]) == []
    assert len(alerts([*history, backup(31, points=3_000)])) == 1


def test_a_steep_trend_that_is_followed_far_beyond_reason_is_judged_too() -> None:
    early = [(0, 0)] * 3 + [(1, 28_239_859), (209, 0)]
    history = [Measured(backup=str(at), at=float(at), stored_size=stored) for at, stored in [(0, None)] * 11 + early]
    assert [one.rule for one in judge("docs", [*history, Measured(backup="418", at=418.0, stored_size=4_493_189)], UTC)]


NUMBERS = st.none() | st.integers(0, 2**62)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), NUMBERS, NUMBERS, NUMBERS, st.none() | st.floats(0, 1e7)), max_size=40)
)
def test_any_history_is_judged(rows: list[tuple[int, int | None, int | None, int | None, float | None]]) -> None:
    history = [
        Measured(backup=str(at), at=float(at), points=points, raw_size=raw, stored_size=stored, seconds=seconds)
        for at, points, raw, stored, seconds in sorted(rows, key=lambda row: row[0])
    ]
    last = history[-1] if history else Measured(backup="", at=0.0)
    measured = (
        last.points is not None,
        last.raw_size is not None or last.stored_size is not None,
        last.seconds is not None,
        last.packed is not None,
    )
    told = [one.rule for one in judge("docs", history, UTC)]
    assert told == [rule for rule, there in zip(RULES, measured, strict=True) if there]
