import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules.retention_world import CLEANUP, CRONS, POLICIES, SHIPPED, ZONES

from agent.errors import BadConfig, BadUsage
from agent.rules.keeping import Age, Backup, Pin, Policy
from agent.rules.retention import Caution, Location, plan
from agent.rules.simulation import Series, freed, simulate
from agent.rules.timetable import DAY, slots_between

BERLIN = ZoneInfo("Europe/Berlin")
GIB = 2**30
CALM = Caution(newest=1000)
PLANNED = {tier: Series(policy=SHIPPED[tier], cron=CRONS[tier], size=GIB) for tier in CRONS}


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def shown(starts: tuple[float, ...]) -> list[str]:
    return [datetime.fromtimestamp(one, BERLIN).strftime("%m-%d") for one in starts]


def test_three_years_of_the_shipped_tiers_fill_up_and_stay_full_within_a_second() -> None:
    began = time.process_time()
    course = simulate(PLANNED, CLEANUP, at("2026-11-23T00:00"), at("2029-11-23T00:00"), BERLIN)
    assert time.process_time() - began < 1

    assert len(course.ends) == 3 * 365 + 1
    assert {tier: len(starts) for tier, starts in course.ends[-1].kept.items()} == {
        "daily": 31,
        "weekly": 13,
        "monthly": 25,
    }
    assert course.ends[-1].size == 69 * GIB
    # At the end of a month one more of each lies there for the hours until the cleanup.
    assert course.peak == 72 * GIB
    assert datetime.fromtimestamp(course.peak_at, BERLIN).day == 1
    assert freed(course, 29) == 0
    assert freed(course, 33) == 2 * GIB


def test_what_is_kept_at_the_end_of_each_day_is_told() -> None:
    tiers = {"daily": Series(policy=Policy(Age(2, "d")), cron="0 2 * * *", size=10)}
    course = simulate(tiers, CLEANUP, at("2026-10-23T00:00"), at("2026-10-28T12:00"), BERLIN)
    assert [(shown(end.kept["daily"]), end.size) for end in course.ends] == [
        (["10-23"], 10),
        (["10-23", "10-24"], 20),
        (["10-23", "10-24", "10-25"], 30),
        (["10-24", "10-25", "10-26"], 30),
        (["10-25", "10-26", "10-27"], 30),
        (["10-26", "10-27", "10-28"], 30),
    ]
    assert (course.peak, course.peak_at) == (40, at("2026-10-26T02:00"))
    assert [shown((one.backup.started,)) for one in course.gone] == [["10-23"], ["10-24"], ["10-25"]]
    assert [freed(course, days) for days in (3, 4, 5, 6)] == [0, 10, 20, 30]


def test_a_cleanup_sees_the_backup_of_the_same_moment_and_the_end_of_a_day_does_not() -> None:
    tiers = {"daily": Series(policy=Policy(1), cron="0 0 * * *", size=10)}
    course = simulate(tiers, "0 0 * * *", at("2026-11-22T12:00"), at("2026-11-25T00:00"), BERLIN)
    assert [shown(end.kept["daily"]) for end in course.ends] == [[], ["11-23"], ["11-24"]]
    assert [shown((one.at, one.backup.started)) for one in course.gone] == [["11-24", "11-23"], ["11-25", "11-24"]]


def test_what_is_kept_at_the_end_of_each_month_is_told() -> None:
    course = simulate(PLANNED, CLEANUP, at("2026-11-23T00:00"), at("2027-02-03T00:00"), BERLIN, every="month")
    assert [shown((end.at,)) for end in course.ends] == [["12-01"], ["01-01"], ["02-01"], ["02-03"]]
    assert [len(end.kept["monthly"]) for end in course.ends] == [0, 1, 2, 3]


def test_what_lies_there_already_takes_part() -> None:
    now = at("2026-11-23T00:00")

    def lying(days: float, state: str = "good", **more) -> Backup:
        return Backup(id=f"{days}", tier="daily", started=now - days * DAY, state=state, size=1, **more)

    present = [
        lying(60, "bad"),
        lying(50, pin=Pin(now + 3 * DAY)),
        lying(40, drilled={"a": now}),
        lying(35, "unknown"),
        lying(34, ours=False),
        lying(0.5, "bad"),
        Backup(id="x", tier="gone", started=now - 900 * DAY, state="good", size=1000),
    ]
    course = simulate(PLANNED, CLEANUP, now, at("2026-11-30T00:00"), BERLIN, present)

    assert [(shown((one.at,)), one.backup.id) for one in course.gone] == [
        (["11-23"], "60"),
        (["11-23"], "40"),
        (["11-26"], "50"),
    ]
    assert freed(course, 7) == 3
    assert course.ends[-1].kept["gone"] == (now - 900 * DAY,)
    assert course.ends[-1].size == 1000 + 3 + 8 * GIB


def test_a_tier_that_is_kept_for_ever_only_grows() -> None:
    tiers = {"daily": Series(policy=None, cron="0 2 * * *", size=10), "manual": Series(policy=Policy(1), size=10)}
    course = simulate(tiers, CLEANUP, at("2026-11-23T00:00"), at("2027-11-23T00:00"), BERLIN)
    assert (course.peak, course.gone, course.ends[-1].kept["manual"]) == (3650, (), ())


def test_a_line_that_comes_too_often_is_refused() -> None:
    tiers = {"daily": Series(policy=Policy(1), cron="* * * * *")}
    with pytest.raises(BadUsage, match="'\\* \\* \\* \\* \\*' has more than 100,000 slots in this time"):
        simulate(tiers, CLEANUP, 0.0, 100 * DAY, BERLIN)
    with pytest.raises(BadConfig):
        simulate(tiers, "at noon", 0.0, DAY, BERLIN)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(ZONES),
    st.integers(0, 400),
    st.sampled_from(POLICIES[1:]),
    st.lists(
        st.tuples(st.sampled_from(["daily", "weekly", "manual", "x"]), st.integers(1, 4000), st.sampled_from("gbiup")),
        max_size=30,
        unique_by=lambda one: one[1],
    ),
)
def test_a_simulation_is_what_the_plan_of_every_day_comes_to(zone, start, policies, lying) -> None:
    where, since = ZoneInfo(zone), 1_760_000_000.0 + start * DAY
    until = since + 50 * DAY
    states = {"g": "good", "b": "bad", "i": "incomplete", "u": "good", "p": "good"}
    present = [
        Backup(
            id=str(hours),
            tier=tier,
            started=since - hours * 3600.0,
            state=states[kind],
            ours=kind != "u",
            pin=Pin(since + 9 * DAY) if kind == "p" else None,
            size=hours,
        )
        for tier, hours, kind in lying
    ]
    tiers = {tier: Series(policy=policies.get(tier), cron=CRONS.get(tier, ""), size=5) for tier in [*CRONS, "manual"]}

    course = simulate(tiers, CLEANUP, since, until, where, present)

    came = [(slot, tier) for tier, cron in CRONS.items() for slot in slots_between(cron, since, until, where, 999)]
    here, gone = {(one.tier, one.id): one for one in present}, []
    for night in slots_between(CLEANUP, since, until, where, 999):
        new = [
            Backup(id=f"{slot:.0f}", tier=tier, started=slot, state="good", size=5)
            for slot, tier in came
            if slot <= night
        ]
        here |= {one.key: one for one in new if one.key not in {old.key for _, old in gone}}
        known = Location(name="primary", backups=list(here.values()), policies=policies)
        gone += [
            (night, here.pop(one.backup.key)) for one in plan([known], night, where, caution=CALM, meant=True).expiring
        ]
        assert sorted(one.key for at, one in gone) == sorted(one.backup.key for one in course.gone if one.at <= night)
    assert freed(course, 20) == sum(one.size for at, one in gone if at <= since + 20 * DAY)
