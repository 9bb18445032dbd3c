from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from agent.rules.finding import Finding, Level, ok
from agent.rules.keeping import Age, Backup, Pin, Policy, Reason
from agent.rules.retention import Caution, Freeze, Location, Plan, finding, plan, wanted

BERLIN = ZoneInfo("Europe/Berlin")
TODAY = datetime(2026, 11, 23, 4, tzinfo=BERLIN)
NOW = TODAY.timestamp()
MONTH = Policy(Age(30, "d"))
DAILY = {"daily": MONTH}
POINT = "the newest one that is at least 30 days old: until {} is old enough, it is the oldest point to go back to"


def made(days: int, tier: str = "daily", state: str = "good", **more: Any) -> Backup:
    """A backup that was begun at two o'clock, so many days ago."""
    started = (TODAY - timedelta(days=days)).replace(hour=2).timestamp()
    name = datetime.fromtimestamp(started, UTC).strftime("%Y%m%dT%H%M%SZ")
    return Backup(id=name, tier=tier, started=started, state=state, **more)


def place(*backups: Backup, policies: Mapping[str, Policy | None] = DAILY, **more: Any) -> Location:
    return Location(**{"name": "primary", "backups": backups, "policies": policies} | more)


def decide(*locations: Location, **more: Any) -> Plan:
    return plan(locations, NOW, BERLIN, **{"meant": True} | more)


def said(*backups: Backup, **more: Any) -> list[tuple[str, str]]:
    """What becomes of backups in one location, the newest first."""
    return [(one.action, one.because) for one in decide(place(*backups, **more)).decisions]


def going(found: Plan) -> list[tuple[str, str]]:
    return [(one.location, one.backup.id) for one in found.expiring]


def test_up_to_an_age_all_are_kept_and_the_newest_beyond_it_leads_back_that_far() -> None:
    assert said(made(0), made(1), made(29), made(31), made(34)) == [
        ("keep", "less than a day old; daily ones are kept 30 days"),
        ("keep", "1 day old; daily ones are kept 30 days"),
        ("keep", "29 days old; daily ones are kept 30 days"),
        ("keep", POINT.format("20261025T000000Z")),
        ("expire", "34 days old; daily ones are kept 30 days"),
    ]


def test_the_old_one_stays_until_a_newer_good_one_is_old_enough_itself() -> None:
    old, new = made(90), made(2)
    for day in range(40):
        now = (TODAY + timedelta(days=day)).timestamp()
        found = plan([place(old, new, made(0))], now, BERLIN, meant=True)
        assert bool(found.expiring) == (day >= 28), day


def test_the_first_monthly_one_matures() -> None:
    policies = {"monthly": Policy(Age(2, "mo"))}
    first, others = made(62, "monthly"), [made(31, "monthly"), made(1, "monthly")]

    assert said(first, *others, policies=policies)[2][1].startswith("the newest one that is at least 2 months old")
    assert said(made(93, "monthly"), first, *others, policies=policies)[3] == (
        "expire",
        "93 days old; monthly ones are kept 2 months",
    )


def test_so_many_of_the_newest_good_ones_are_kept() -> None:
    assert said(*map(made, (1, 2, 3, 4, 90)), policies={"daily": Policy(4)}) == [
        *[("keep", "one of the 4 newest good daily ones")] * 4,
        ("expire", "4 newer daily ones are good, and no more are kept"),
    ]
    assert said(made(1), made(2), policies={"daily": Policy(1)}) == [
        ("keep", "the newest good daily one"),
        ("expire", "1 newer daily one is good, and no more are kept"),
    ]


def test_the_fewest_good_ones_stay_however_old_they_are() -> None:
    policies = {"daily": Policy(Age(30, "d"), minimum=3), "weekly": Policy(1, minimum=2)}
    assert said(*map(made, (40, 50, 60, 70)), policies=policies) == [
        ("keep", "the newest good daily one"),
        ("keep", "one of the 3 newest good daily ones"),
        ("keep", "one of the 3 newest good daily ones"),
        ("expire", "70 days old; daily ones are kept 30 days"),
    ]
    assert said(*(made(age, "weekly") for age in (1, 8, 15)), policies=policies) == [
        ("keep", "the newest good weekly one"),
        ("keep", "one of the 2 newest good weekly ones"),
        ("expire", "2 newer weekly ones are good, and no more are kept"),
    ]


@pytest.mark.parametrize("minimum", [0, 1])
def test_the_newest_good_one_of_each_tier_stays(minimum: int) -> None:
    policies = {"daily": Policy(Age(30, "d"), minimum), "weekly": Policy(Age(1, "w"), minimum)}
    assert said(made(400), made(1, state="bad"), made(500, "weekly"), policies=policies) == [
        ("keep", "bad; 1 day old, daily ones are kept 30 days"),
        ("keep", "the newest good daily one"),
        ("keep", "the newest good weekly one"),
    ]


def test_the_newest_drilled_one_of_each_collection_stays() -> None:
    drills = [made(50, drilled={"a": 5.0, "b": 7.0}), made(60, drilled={"a": 6.0}), made(70, drilled={"b": 6.9})]
    assert said(made(1), made(40), *drills)[2:] == [
        ("keep", "the newest drilled one of b"),
        ("keep", "the newest drilled one of a"),
        ("expire", "70 days old; daily ones are kept 30 days"),
    ]


def test_a_drill_of_one_that_is_no_longer_good_protects_nothing() -> None:
    drilled = [made(50, drilled={"a": 6.0}, state="bad"), made(60, drilled={"a": 5.0}), made(70, drilled={"a": 4.0})]
    assert [action for action, _ in said(made(1), made(40), *drilled)] == ["keep", "keep", "expire", "keep", "expire"]


def test_many_drilled_collections_are_named_in_short() -> None:
    one = made(50, drilled=dict.fromkeys(("users", "articles", "tags", "images", "logs"), 1.0))
    assert said(made(1), made(40), one)[2] == ("keep", "the newest drilled one of articles, images, logs and 2 more")


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        (Pin(), ("keep", "pinned")),
        (Pin(because="audit"), ("keep", "pinned: audit")),
        (
            Pin(datetime(2027, 1, 1, tzinfo=BERLIN).timestamp(), "audit"),
            ("keep", "pinned until 2027-01-01: audit"),
        ),
        (Pin(NOW + 1), ("keep", "pinned until 2026-11-23")),
        (Pin(NOW, "audit"), ("expire", "50 days old; daily ones are kept 30 days")),
    ],
)
def test_what_is_pinned_stays_until_the_pin_ends(pin: Pin, expected: tuple[str, str]) -> None:
    assert said(made(1), made(40), made(50, pin=pin))[2] == expected


@pytest.mark.parametrize("state", ["bad", "incomplete"])
def test_what_is_bad_stays_too_while_it_is_pinned(state: str) -> None:
    assert said(made(1), made(50, state=state, pin=Pin()))[1] == ("keep", "pinned")


def test_what_is_not_ours_is_never_touched_and_takes_nobodys_place() -> None:
    foreign = [made(age, ours=False) for age in (0, 31, 400)]
    assert said(*foreign, made(40), made(50), made(60, state="bad")) == [
        ("keep", "not ours"),
        ("keep", "not ours"),
        ("keep", "the newest good daily one"),
        ("expire", "50 days old; daily ones are kept 30 days"),
        ("expire", "bad, and 60 days old; daily ones are kept 30 days, and a newer one is good"),
        ("keep", "not ours"),
    ]


@pytest.mark.parametrize("state", ["unknown", "a word of tomorrow"])
def test_what_nobody_has_proved_yet_stays_and_takes_nobodys_place(state: str) -> None:
    assert said(made(35, state=state), made(40), made(50, state=state)) == [
        ("keep", "not proved yet"),
        ("keep", "the newest good daily one"),
        ("keep", "not proved yet"),
    ]


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (made(50, state="bad"), "bad"),
        (made(50, state="incomplete"), "incomplete"),
        (made(50, complete=False), "incomplete"),
    ],
)
def test_what_is_bad_goes_when_it_is_too_old_and_a_newer_one_is_good(one: Backup, word: str) -> None:
    young = replace(one, id="young", started=made(3).started)
    count = {"daily": Policy(2)}
    kept = "daily ones are kept 30 days"

    assert said(one) == [("keep", f"{word}; kept until a newer daily one is good")]
    assert said(one, made(60))[0] == ("keep", f"{word}; kept until a newer daily one is good")
    assert said(one, made(40, "weekly"))[1] == ("keep", f"{word}; kept until a newer daily one is good")
    assert said(one, made(40))[1] == ("expire", f"{word}, and 50 days old; {kept}, and a newer one is good")
    assert said(one, made(1))[1] == ("expire", f"{word}, and 50 days old; {kept}, and a newer one is good")
    assert said(made(1), young)[1] == ("keep", f"{word}; 3 days old, {kept}")
    assert said(made(1), one, policies=count)[1] == ("keep", f"{word}; kept until 2 newer daily ones are good")
    assert said(made(1), made(2), young, policies=count)[2] == (
        "expire",
        f"{word}, and 2 newer daily ones are good",
    )


def test_what_is_bad_leads_back_nowhere() -> None:
    assert said(made(1), made(31, state="bad"), made(90)) == [
        ("keep", "1 day old; daily ones are kept 30 days"),
        ("expire", "bad, and 31 days old; daily ones are kept 30 days, and a newer one is good"),
        ("keep", POINT.format("20261122T010000Z")),
    ]


def test_a_tier_without_a_policy_is_kept_for_ever() -> None:
    policies = {"daily": MONTH, "manual": None, "pre-restore": Policy(Age(1, "w"))}
    lying = [made(500, "manual"), made(600, "manual"), made(700, "removed"), made(9, "removed", state="bad")]
    assert said(*lying, made(8, "pre-restore"), made(9, "pre-restore"), policies=policies) == [
        ("keep", "the newest good pre-restore one"),
        ("expire", "9 days old; pre-restore ones are kept 1 week"),
        ("keep", "removed ones are kept for ever"),
        ("keep", "manual ones are kept for ever"),
        ("keep", "manual ones are kept for ever"),
        ("keep", "removed ones are kept for ever"),
    ]


def test_the_age_that_is_told_counts_days_as_the_policy_does() -> None:
    """Over the spring change, 30 days are an hour short of thirty times 24."""
    now = datetime(2026, 4, 20, 4, tzinfo=BERLIN)
    then = (now - timedelta(days=30)).timestamp()
    old = [replace(made(0), id="a", started=then), replace(made(0), id="b", started=then - 60)]
    found = plan([place(*old, replace(made(0), started=now.timestamp() - 9))], now.timestamp(), BERLIN, meant=True)
    assert [(one.backup.id, one.because) for one in found.expiring] == [
        ("b", "30 days old; daily ones are kept 30 days")
    ]


WEEK = {"daily": Policy(Age(1, "w"))}


def test_each_location_keeps_by_its_own_policy() -> None:
    lying = [made(age) for age in (1, 8, 20, 31, 40)]
    found = decide(place(*lying, policies=WEEK), place(*lying, name="secondary"))
    assert going(found) == [("primary", made(age).id) for age in (20, 31, 40)] + [("secondary", made(40).id)]


@pytest.mark.parametrize("lost", [None, "bad", "incomplete", "unknown"])
def test_the_last_good_copy_of_what_another_location_is_to_keep_stays(lost: str | None) -> None:
    lying = [made(1), made(8), made(20), made(60)]
    there = [made(1), made(8), *([made(20, state=lost)] if lost else []), made(60)]
    found = decide(place(*lying, policies=WEEK), place(*there, name="secondary"))

    assert going(found) == [("primary", made(60).id)]
    assert [(one.rule, one.because) for one in found.decisions if one.backup == made(20)] == [
        (
            Reason.LAST_COPY,
            "20 days old; daily ones are kept 1 week; but secondary should have it and has no good copy",
        )
    ]


def test_a_copy_that_is_wanted_nowhere_is_no_last_copy() -> None:
    lying = [made(1), made(40), made(60)]
    found = decide(place(*lying, policies=WEEK), place(made(1), made(40), made(60, state="bad"), name="secondary"))
    assert going(found) == [("primary", made(60).id), ("secondary", made(60).id)]


def test_of_two_last_copies_none_goes_before_a_third_is_made() -> None:
    lying, policies = [made(1), made(8), made(20)], {"daily": Policy(Age(24, "mo"))}
    two = [place(*lying, policies=WEEK), place(*lying, policies=WEEK, name="secondary")]
    vault = place(made(1), made(8), name="vault", policies=policies)

    assert going(decide(*two, vault)) == []
    assert going(decide(*two, replace(vault, backups=lying))) == [
        ("primary", made(20).id),
        ("secondary", made(20).id),
    ]


def test_where_nobody_can_look_nothing_goes_and_no_copy_counts() -> None:
    lying = [made(1), made(8), made(20), made(40), made(60)]
    found = decide(place(*lying, policies=WEEK), place(*lying, name="secondary", away="not mounted"))

    assert going(found) == [("primary", made(60).id)]
    assert [one.because for one in found.decisions if one.backup == made(60)][1] == (
        "60 days old; daily ones are kept 30 days; secondary is away: not mounted"
    )
    assert [one.rule for one in found.decisions if one.location == "primary"][2:4] == [Reason.LAST_COPY] * 2


def test_a_location_wants_what_its_policies_would_keep_of_all_that_is_good() -> None:
    known = [made(1), made(20), made(40), made(60), made(90, "manual"), made(2, state="bad"), made(3, ours=False)]
    assert wanted(DAILY, known, NOW, BERLIN) == {one.key for one in known if one not in known[3:4] + known[5:]}


TEN = [made(age) for age in range(25, 95, 7)]


def test_when_the_newest_three_are_damaged_nothing_goes_and_the_reason_is_told() -> None:
    damaged = [replace(one, state=state) for one, state in zip(TEN, ("bad", "incomplete", "bad"), strict=False)]
    assert len(decide(place(*TEN)).expiring) == 8

    found = decide(place(*damaged, *TEN[3:]))

    assert going(found) == []
    assert not found.forceable
    assert finding(found) == Finding(
        "cleanup_frozen",
        "cleanup",
        Level.CRITICAL,
        "no old backup is removed: none of the 3 newest daily backups in primary is good and complete",
        f"`snapward show {TEN[0].id}` says what is wrong. The next good daily backup ends this.",
    )
    assert found.decisions[-1].because == (
        "88 days old; daily ones are kept 30 days; nothing goes while the cleanup is frozen"
    )


@pytest.mark.parametrize(
    ("states", "frozen"),
    [
        (["bad", "bad"], False),
        (["bad", "bad", "good"], False),
        (["bad", "unknown", "bad"], False),
        (["unknown", "bad", "unknown", "bad", "incomplete"], True),
        (["good", "bad", "bad", "bad"], False),
    ],
)
def test_the_newest_that_were_judged_have_to_be_bad_for_a_freeze(states: list[str], *, frozen: bool) -> None:
    lying = [made(day, state=state) for day, state in enumerate(states)]
    assert bool(decide(place(*lying, made(10), made(40), made(50))).frozen) == frozen


def test_bad_ones_of_a_tier_that_is_kept_for_ever_or_that_are_not_ours_freeze_nothing() -> None:
    lying = [made(1), made(40), *(made(day, "manual", state="bad") for day in (1, 2, 3))]
    lying += [replace(made(0, state="bad", ours=False), id=name) for name in ("a.snapshot", "b.snapshot", "c.snapshot")]
    assert decide(place(*lying)).frozen == ()
    assert decide(place(*lying, policies=DAILY | {"manual": None})).frozen == ()
    assert decide(place(*lying, policies=DAILY | {"manual": MONTH})).frozen != ()


def test_how_many_bad_ones_freeze_a_cleanup_can_be_set() -> None:
    lying = [made(1, state="bad"), made(2), made(40)]
    assert decide(place(*lying), caution=Caution(newest=2)).frozen == ()
    assert decide(place(*lying), caution=Caution(newest=1)).frozen != ()


def test_trouble_in_one_location_freezes_all_unless_it_is_away() -> None:
    bad = [made(day, state="bad") for day in (1, 2, 3)]
    fine = place(made(1), made(40), made(50))
    assert going(decide(fine, place(*bad, name="secondary"))) == []
    assert going(decide(fine, place(*bad, name="secondary", away="not mounted"))) == [("primary", made(50).id)]


def test_what_the_caller_has_seen_freezes_everything_whatever_is_meant() -> None:
    jumped = Freeze("clock", "the clock jumped by 5 years", "Set it right.")
    found = decide(place(made(1), made(40), made(50)), suspicions=[jumped], meant=True)
    assert (found.frozen, going(found), found.forceable) == ((jumped,), [], False)
    assert finding(found).why == "no old backup is removed: the clock jumped by 5 years"
    assert finding(found).hint == "Set it right."


def test_a_backup_from_the_future_freezes_everything() -> None:
    lying = [made(1), made(40), made(50)]
    found = decide(place(*lying, made(-1826)))
    assert (found.frozen[0].kind, going(found)) == ("future", [])
    assert found.frozen[0].why == "daily/20311123T010000Z in primary is dated 1826 days ahead of the clock"
    many = decide(place(*lying, made(-1826), made(-2)))
    assert many.frozen[0].why.startswith("2 backups would be from the future: daily/20311123T010000Z in primary")
    assert decide(place(*lying, made(-2, ours=False))).frozen == ()
    assert decide(place(*lying, replace(made(0), started=NOW + 60))).frozen == ()
    assert decide(place(*lying, replace(made(0), started=NOW + 61))).frozen != ()


def test_more_than_half_of_a_location_goes_only_when_somebody_says_that_it_is_meant() -> None:
    lying = [made(age) for age in range(1, 31)]
    three = place(*lying, policies={"daily": Policy(Age(3, "d"))})
    found = decide(three, place(*lying, name="secondary"), meant=False)

    assert going(found) == []
    assert found.forceable
    assert found.frozen[0] == Freeze(
        "share",
        "27 of 30 good backups in primary would go at once, more than 50%",
        "If that is meant, because less is to be kept than before: `snapward expire --yes --force`.",
    )
    assert len(decide(three, place(*lying, name="secondary"), meant=True).expiring) == 27


def test_half_of_a_location_may_go_and_bad_ones_are_not_counted() -> None:
    half = place(*(made(age) for age in range(1, 9)), policies={"daily": Policy(4)})
    assert len(decide(half, meant=False).expiring) == 4
    assert decide(half, caution=Caution(share=0.4), meant=False).frozen[0].kind == "share"
    spoilt = [made(age, state="bad") for age in range(40, 50)]
    assert len(decide(place(made(1), made(2), *spoilt), meant=False).expiring) == 10


def test_a_word_that_it_is_meant_lifts_no_other_freeze() -> None:
    lying = [*(made(day, state="bad") for day in (1, 2, 3)), *(made(age) for age in range(40, 70))]
    assert {one.kind for one in decide(place(*lying), meant=False).frozen} == {"newest_bad", "share"}
    assert not decide(place(*lying), meant=False).forceable
    assert going(decide(place(*lying), meant=True)) == []


def test_a_cleanup_that_is_not_frozen_says_so() -> None:
    assert finding(decide(place(made(1), made(40), made(50)))) == ok("cleanup_frozen", "cleanup", "1 backup to remove")


def test_decisions_come_by_location_and_the_newest_first() -> None:
    lying = [made(2), made(40), made(1, "weekly"), made(1)]
    found = decide(place(*lying, name="b"), place(*lying[::-1], name="a"))
    order = [("daily", made(1).id), ("weekly", made(1).id), ("daily", made(2).id), ("daily", made(40).id)]
    assert [(one.location, *one.backup.key) for one in found.decisions] == [
        *(("b", *key) for key in order),
        *(("a", *key) for key in order),
    ]
    assert decide() == Plan(())
