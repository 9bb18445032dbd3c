import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.rules.finding import Finding, Level, ok
from agent.rules.incident import TOLD, Change, Incident, Policy, Turn, next_turn, recipients, repeat, turn

OK, WARNING, CRITICAL = Level.OK, Level.WARNING, Level.CRITICAL
NOW = 1_800_000_000.0
AT_ONCE = Policy()
HELD = Policy(hold=300.0)
WHO = {"mail": WARNING, "chat": CRITICAL}
BAD = Finding("storage_space", "primary", WARNING, "81 % used", "Free space.")
WORSE = Finding("storage_space", "primary", CRITICAL, "91 % used", "Free space now.")
FINE = ok("storage_space", "primary", "70 % used")


def incident(
    level: Level = WARNING, since: float = NOW, opened: float | None = NOW, told: float | None = NOW
) -> Incident:
    return Incident("storage_space", "primary", level, "81 % used", "Free space.", since, opened, told, None, 7)


def test_the_first_finding_opens_an_incident_and_nothing_else_does() -> None:
    assert turn(None, FINE, NOW, AT_ONCE) == Turn(None)
    assert turn(None, BAD, NOW, AT_ONCE) == Turn(
        Incident("storage_space", "primary", WARNING, "81 % used", "Free space.", NOW, NOW, NOW), Change.OPENED
    )


def test_the_same_finding_again_changes_only_the_words() -> None:
    again = turn(incident(), Finding("storage_space", "primary", WARNING, "82 % used", "Hurry."), NOW + 60, AT_ONCE)
    assert again == Turn(
        Incident("storage_space", "primary", WARNING, "82 % used", "Hurry.", NOW, NOW, NOW, None, 7), None
    )


def test_worse_is_told_at_once_and_better_is_only_noted() -> None:
    worse = turn(incident(), WORSE, NOW + 60, AT_ONCE)
    assert worse == Turn(
        Incident("storage_space", "primary", CRITICAL, "91 % used", "Free space now.", NOW, NOW, NOW + 60, None, 7),
        Change.WORSE,
    )
    better = turn(worse.incident, BAD, NOW + 120, AT_ONCE)
    assert better == Turn(
        Incident("storage_space", "primary", WARNING, "81 % used", "Free space.", NOW, NOW, NOW + 60, None, 7),
        Change.BETTER,
    )


def test_the_end_keeps_the_level_and_the_hint_and_says_why_it_is_over() -> None:
    over = turn(incident(CRITICAL), FINE, NOW + 60, AT_ONCE)
    assert over == Turn(
        Incident("storage_space", "primary", CRITICAL, "70 % used", "Free space.", NOW, NOW, NOW, NOW + 60, 7),
        Change.RESOLVED,
    )
    wordless = turn(incident(), ok("storage_space", "primary"), NOW + 60, AT_ONCE).incident
    assert wordless is not None
    assert wordless.why == "81 % used"


def test_a_finding_that_is_held_back_opens_only_when_it_stays() -> None:
    first = turn(None, BAD, NOW, HELD)
    assert first == Turn(Incident("storage_space", "primary", WARNING, "81 % used", "Free space.", NOW))
    later = turn(first.incident, WORSE, NOW + 299, HELD)
    assert later.change is None
    assert later.incident is not None
    assert later.incident.level is CRITICAL
    opened = turn(later.incident, WORSE, NOW + 300, HELD)
    assert opened.change is Change.OPENED
    assert opened.incident is not None
    assert (opened.incident.since, opened.incident.opened, opened.incident.told) == (NOW, NOW + 300, NOW + 300)


def test_what_ends_while_it_is_held_back_is_told_to_nobody() -> None:
    over = turn(incident(opened=None, told=None), FINE, NOW + 60, HELD)
    assert over.change is None
    assert over.incident is not None
    assert over.incident.resolved == NOW + 60


@pytest.mark.parametrize(("rule", "own"), [("checksum_missing", 900.0), ("target_failing", 60.0)])
@pytest.mark.parametrize("hold", [0.0, 3600.0])
def test_a_rule_with_a_hold_of_its_own_is_held_for_the_longer_time(rule: str, own: float, hold: float) -> None:
    bad, policy = Finding(rule, "s", WARNING, ""), Policy(hold=hold)
    first = turn(None, bad, NOW, policy).incident
    end = max(hold, own)
    assert first is not None
    assert next_turn(first, NOW, policy) == NOW + end
    assert turn(first, bad, NOW + end - 1, policy).change is None
    assert turn(first, bad, NOW + end, policy).change is Change.OPENED


@pytest.mark.parametrize(
    ("passed", "change"),
    [(0, None), (14_399, None), (14_400, Change.REPEATED), (-1, None), (-60, None), (-61, Change.REPEATED)],
)
def test_an_open_incident_is_repeated_after_its_interval_and_when_the_clock_went_back(
    passed: float, change: Change | None
) -> None:
    now = NOW + passed
    expected = incident(told=now) if change else incident()
    assert repeat(incident(), now, AT_ONCE) == Turn(expected, change)


def test_what_is_held_back_is_never_repeated() -> None:
    held = incident(opened=None, told=None)
    assert repeat(held, NOW + 10**9, HELD) == Turn(held)


def test_a_clock_that_went_back_holds_nothing_back_longer() -> None:
    held = incident(CRITICAL, opened=None, told=None)
    assert turn(held, WORSE, NOW - 60, HELD).change is None
    assert turn(held, WORSE, NOW - 61, HELD).change is Change.OPENED


@pytest.mark.parametrize(
    ("known", "now", "at"),
    [
        (incident(), NOW, NOW + 14_400),
        (incident(told=NOW + 5), NOW + 5, NOW + 14_405),
        (incident(opened=None, told=None), NOW + 9, NOW + 300),
        (incident(), NOW - 60, NOW + 14_400),
        (incident(), NOW - 61, NOW - 61),
        (incident(opened=None, told=None), NOW - 61, NOW - 61),
        (incident(), -math.inf, -math.inf),
    ],
)
def test_the_next_turn_is_never_planned_by_a_clock_that_has_gone_back(known: Incident, now: float, at: float) -> None:
    assert next_turn(known, now, HELD) == at


@pytest.mark.parametrize("change", sorted(Change))
@pytest.mark.parametrize(
    ("level", "hear"), [(CRITICAL, ["mail", "chat"]), (WARNING, ["mail"])], ids=["critical", "warning"]
)
def test_a_change_goes_to_all_who_want_that_level_and_the_end_only_to_those_told(
    change: Change, level: Level, hear: list[str]
) -> None:
    heard = recipients(change, incident(level), WHO, frozenset({"pager", "chat"}), AT_ONCE)
    match change:
        case Change.BETTER:
            assert heard == []
        case Change.RESOLVED:
            assert heard == ["chat", "pager"]
        case _:
            assert heard == hear


def test_nobody_hears_of_the_end_where_ends_are_not_sent() -> None:
    policy = Policy(send_resolved=False)
    assert recipients(Change.RESOLVED, incident(), WHO, frozenset({"mail"}), policy) == []
    assert recipients(Change.OPENED, incident(), WHO, frozenset({"mail"}), policy) == ["mail"]


def test_a_target_is_not_told_of_its_own_failure() -> None:
    failing = Incident("target_failing", "mail", CRITICAL, "refused", "", NOW, NOW, NOW)
    assert recipients(Change.OPENED, failing, WHO, frozenset(), AT_ONCE) == ["chat"]
    other = Incident("archive_bad", "mail", CRITICAL, "refused", "", NOW, NOW, NOW)
    assert recipients(Change.OPENED, other, WHO, frozenset(), AT_ONCE) == ["mail", "chat"]


def test_the_words_that_lie_in_every_ledger_never_change() -> None:
    assert [str(change) for change in Change] == ["opened", "worse", "better", "repeated", "resolved"]


def test_only_better_is_kept_from_people() -> None:
    assert set(Change) - TOLD == {Change.BETTER}


class Life(RuleBasedStateMachine):
    """Any findings at any times, with a clock that may be set back: what must people have heard?"""

    policy = Policy(hold=300.0, repeat_interval=3600.0)

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.incident: Incident | None = None
        self.heard: dict[str, list[Change]] = {name: [] for name in WHO}
        # The reference: how bad it is, since when, and when it was last spoken of (None: not yet).
        self.level = OK
        self.since = NOW
        self.spoken: float | None = None

    @rule(seconds=st.sampled_from([1.0, 150.0, 300.0, 3600.0, 86_400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([1.0, 60.0, 61.0, 86_400.0, 10.0**9]))
    def the_clock_is_set_back(self, seconds: float) -> None:
        self.now -= seconds

    def passed(self, at: float) -> float:
        return self.now - at if at - self.now <= 60 else math.inf

    def tell(self, step: Turn) -> None:
        if step.change is not None:
            assert step.incident is not None
            told = frozenset(name for name, changes in self.heard.items() if changes)
            for name in recipients(step.change, step.incident, WHO, told, self.policy):
                self.heard[name].append(step.change)
        self.incident = None if step.incident is None or step.incident.resolved is not None else step.incident

    @rule(level=st.sampled_from([WARNING, CRITICAL]))
    def trouble_is_found(self, level: Level) -> None:
        if self.level is OK:
            self.since = self.now
        expected = None
        if self.spoken is None:
            expected = Change.OPENED if self.passed(self.since) >= 300 else None
        elif level != self.level:
            expected = Change.WORSE if level > self.level else Change.BETTER
        step = turn(self.incident, Finding("r", "s", level, f"as bad as {level}"), self.now, self.policy)
        assert step.change == expected
        if expected in TOLD:
            self.spoken = self.now
        self.level = level
        self.tell(step)

    @rule()
    def all_is_well(self) -> None:
        before = {name: bool(changes) for name, changes in self.heard.items()}
        step = turn(self.incident, ok("r", "s"), self.now, self.policy)
        assert step.change == (Change.RESOLVED if self.spoken is not None else None)
        self.tell(step)
        assert self.incident is None
        for name, changes in self.heard.items():
            assert (changes[-1:] == [Change.RESOLVED]) is before[name]
            assert changes.count(Change.RESOLVED) <= 1
        self.level, self.spoken, self.heard = OK, None, {name: [] for name in WHO}

    @precondition(lambda self: self.incident is not None)
    @rule()
    def the_reminder_comes(self) -> None:
        assert self.incident is not None
        step = repeat(self.incident, self.now, self.policy)
        due = self.spoken is not None and self.passed(self.spoken) >= 3600
        assert step.change == (Change.REPEATED if due else None)
        if due:
            self.spoken = self.now
        self.tell(step)

    @invariant()
    def trouble_is_remembered_as_long_as_it_lasts(self) -> None:
        if self.level is OK:
            assert self.incident is None
            return
        assert self.incident is not None
        assert (self.incident.level, self.incident.since) == (self.level, self.since)
        assert self.incident.why == f"as bad as {self.level}"
        assert (self.incident.opened is None) == (self.spoken is None)
        assert self.incident.told == self.spoken

    @invariant()
    def everybody_who_wants_to_has_heard_of_it_and_of_its_beginning_once(self) -> None:
        if self.spoken is None:
            assert not any(self.heard.values())
            return
        assert self.heard["mail"][0] is Change.OPENED
        assert self.heard["mail"].count(Change.OPENED) == 1
        assert self.heard["chat"].count(Change.OPENED) <= 1
        if self.level is CRITICAL:
            assert self.heard["chat"]

    @invariant()
    def the_next_turn_is_planned_for_when_it_has_something_to_tell(self) -> None:
        if self.incident is None:
            return
        at = next_turn(self.incident, self.now, self.policy)
        same = Finding("r", "s", self.incident.level, self.incident.why)
        due = (repeat(self.incident, self.now, self.policy), turn(self.incident, same, self.now, self.policy))
        assert (at <= self.now) is any(step.change is not None for step in due)


TestLife = Life.TestCase


def test_what_only_an_upgrade_ends_is_repeated_once_a_week_and_not_every_few_hours() -> None:
    policy = Policy(repeat_interval=4 * 3600.0)
    opened = turn(None, Finding("server_version", "server", Level.WARNING, "old"), 0.0, policy).incident
    assert opened is not None
    assert next_turn(opened, 1.0, policy) == 7 * 86_400.0
    seldom = Policy(repeat_interval=30 * 86_400.0)
    assert next_turn(opened, 1.0, seldom) == 30 * 86_400.0
