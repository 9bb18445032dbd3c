from collections.abc import Mapping, Sequence
from datetime import UTC

import pytest

from agent.rules.finding import Finding, Level
from agent.rules.incident import Change, Incident, Policy, turn
from agent.rules.inventory import Inventory, fresh, judge

DAY = 86_400.0
BEGAN = 1_795_485_600.0  # Tue 24 Nov 2026 02:00:00 UTC


def backup(day: int, points: Mapping[str, int | None], aliases: Mapping[str, str] | None = None) -> Inventory:
    return Inventory(backup=f"b{day}", at=BEGAN + day * DAY, points=points, aliases=aliases or {})


def found(*held: Mapping[str, int | None]) -> dict[tuple[str, str], Finding]:
    findings = judge([backup(day, points) for day, points in enumerate(held)], UTC)
    return {(one.rule, one.subject): one for one in findings}


def alerts(history: Sequence[Inventory]) -> list[Finding]:
    return [one for one in judge(history, UTC) if one.level]


def test_a_collection_that_is_no_longer_in_the_backups_is_missing() -> None:
    (alert,) = alerts([backup(0, {"docs": 1_200, "img": 1}), backup(1, {"img": 1}), backup(2, {"img": 1})])
    assert (alert.rule, alert.subject, alert.level) == ("collection_missing", "docs", Level.CRITICAL)
    assert alert.why == ("docs is missing since Wed 25 Nov 02:00:00 (backup b1); backup b0 has it with 1,200 points")
    assert alert.hint.startswith(
        "`snapward keep b0` keeps the last backup that has it, `snapward restore b0 --collection docs` brings it back. "
    )


def test_a_collection_that_nobody_counted_is_missed_as_well() -> None:
    assert found({"docs": None}, {})["collection_missing", "docs"].why.endswith("; backup b0 has it")


def test_a_collection_that_is_back_is_missing_no_more() -> None:
    back = found({"docs": 5}, {}, {"docs": 5})["collection_missing", "docs"]
    assert (back.level, back.why) == (Level.OK, "docs is in backup b2")


def test_a_collection_is_missed_once_and_no_longer_after_five_backups() -> None:
    history = [backup(day, {"docs": 5, "img": 1} if day < 10 else {"img": 1}) for day in range(30)]
    told: list[tuple[int, Change]] = []
    incident: Incident | None = None
    for number in range(1, 31):
        for one in judge(history[:number], UTC):
            if one.subject == "docs" and one.rule == "collection_missing":
                step = turn(incident, one, history[number - 1].at, Policy())
                incident = None if step.incident is None or step.incident.resolved else step.incident
                told += [(number - 1, step.change)] if step.change else []
    assert told == [(10, Change.OPENED), (14, Change.RESOLVED)]


def test_a_new_collection_is_a_fact_and_no_alert() -> None:
    history = [backup(0, {"docs": 5}), backup(1, {"docs": 5, "new": None, "img": 7})]
    assert fresh(history) == ["img", "new"]
    assert fresh([*history, backup(2, {"docs": 5, "img": 7})]) == []
    assert alerts(history) == []


@pytest.mark.parametrize("history", [[], [backup(0, {"docs": 1})]])
def test_the_first_backup_has_nothing_new_or_missing(history: list[Inventory]) -> None:
    assert judge(history, UTC) == []
    assert fresh(history) == []


@pytest.mark.parametrize(
    ("aliases", "points", "missed"),
    [
        ({"docs": "docs_v2"}, {"docs_v2": 1_300}, []),
        ({"docs": "docs_v2"}, {"docs_v2": None}, []),
        ({"docs": "docs_v2"}, {"docs_v2": 0}, ["docs_v1"]),
        ({"docs": "docs_v2"}, {}, ["docs_v1"]),
        ({"docs": "docs_v1"}, {"docs_v2": 1_300}, ["docs_v1"]),
        ({}, {"docs_v2": 1_300}, ["docs_v1"]),
    ],
)
def test_a_collection_whose_alias_another_has_taken_over_is_not_missed(
    aliases: dict[str, str], points: dict[str, int | None], missed: list[str]
) -> None:
    history = [backup(0, {"docs_v1": 1_200}, {"docs": "docs_v1"}), backup(1, points, aliases)]
    assert [one.subject for one in alerts(history)] == missed


@pytest.mark.parametrize(
    ("aliases", "missed"),
    [
        ({"docs": "docs_v2", "search": "docs_v2"}, []),
        ({"docs": "docs_v2", "search": "docs_v3"}, ["docs_v1"]),
        ({"docs": "docs_v2"}, ["docs_v1"]),
    ],
)
def test_of_several_aliases_one_collection_has_to_take_over_all(aliases: dict[str, str], missed: list[str]) -> None:
    before = backup(0, {"docs_v1": 1_200}, {"docs": "docs_v1", "search": "docs_v1"})
    after = backup(1, {"docs_v2": 9, "docs_v3": 9}, aliases)
    assert [one.subject for one in alerts([before, after])] == missed
