from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sample_week
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sample_week import BERLIN, DAY, HOUR, NOW, WEEK, local

from agent.errors import BadUsage
from agent.rules.archive import State
from agent.rules.facts import Run, Sent
from agent.rules.finding import Level
from agent.rules.incident import Incident
from agent.rules.manifest import CollectionEntry
from agent.rules.report import Report, report_json
from agent.rules.scorecard import stem
from agent.rules.summary import period, summarise, week_of


@pytest.fixture(scope="module")
def fine() -> Report:
    return summarise(sample_week.fine())


@pytest.fixture(scope="module")
def critical() -> Report:
    return summarise(sample_week.critical())


def row(report: Report, name: str):
    return next(one for one in report.scores.collections if one.name == name)


def unchecked(report: Report) -> dict[str, str]:
    return {one.what: one.why for one in report.unchecked}


# The week


@pytest.mark.parametrize(
    ("now", "name", "start", "hours"),
    [
        ("2026-11-23 05:00", "2026-W47", "2026-11-16", 168),
        ("2026-11-22 23:59", "2026-W46", "2026-11-09", 168),
        ("2026-03-30 05:00", "2026-W13", "2026-03-23", 167),  # the clocks went forward
        ("2026-10-26 05:00", "2026-W43", "2026-10-19", 169),  # and back
        ("2027-01-04 05:00", "2026-W53", "2026-12-28", 168),
        ("2027-01-11 05:00", "2027-W01", "2027-01-04", 168),
    ],
)
def test_the_last_complete_week_begins_and_ends_at_local_midnight(now: str, name: str, start: str, hours: int):
    week = week_of(None, local(now), BERLIN)
    assert week.name == name
    assert week.start == local(f"{start} 00:00")
    assert week.end - week.start == hours * HOUR
    assert week_of(name, local(now), BERLIN) == week


def test_the_week_that_is_going_on_can_be_named():
    assert week_of("2026-W48", NOW, BERLIN) == week_of("current", NOW, BERLIN)
    assert week_of("current", NOW, BERLIN).start == local("2026-11-23 00:00")


@pytest.mark.parametrize("text", ["2026-W54", "2026-W00", "2025-W53", "2026-47", "0000-W01", "W47", "", "2026-W49\n"])
def test_what_is_no_week_is_refused(text: str):
    with pytest.raises(BadUsage, match="is no week"):
        week_of(text, NOW, BERLIN)


def test_a_week_to_come_is_refused():
    with pytest.raises(BadUsage, match="has not begun"):
        week_of("2026-W49", NOW, BERLIN)


@given(
    at=st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)),  # noqa: DTZ001 - Hypothesis wants them naive
    zone=st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Africa/Cairo", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_weeks_follow_on_one_another_without_gaps(at: datetime, zone: str):
    now = at.replace(tzinfo=UTC).timestamp()
    here = ZoneInfo(zone)
    last, running = week_of(None, now, here), week_of("current", now, here)
    assert last.end == running.start <= now < running.end


def test_the_period_is_written_out_at_its_edges():
    assert period(week_of("2026-W47", NOW, BERLIN), BERLIN) == (
        "16\u201322 Nov 2026",
        "2026-11-15 23:00 to 2026-11-22 23:00",
    )
    assert period(week_of("2026-W40", NOW, BERLIN), BERLIN)[0] == "28 Sep \u2013 4 Oct 2026"
    assert period(week_of("2020-W53", NOW, BERLIN), BERLIN)[0] == "28 Dec 2020 \u2013 3 Jan 2021"


# The answer


def test_a_good_week_says_so_in_its_subject(fine: Report):
    assert fine.level is Level.OK
    assert fine.subject == "[OK] db1 - 9/9 collections proved faithful, newest good backup 3 h old, disk 60 %"
    assert fine.headline == "All 9 collections are proved faithful."
    assert (fine.needs, fine.scores.never, fine.scores.gone, fine.scores.new) == ((), (), (), ())


def test_a_bad_week_leads_with_what_is_wrong(critical: Report):
    assert critical.subject.startswith("[CRIT] db1 - 7/11 collections proved intact, 4 problems open, newest good")
    assert [one.level for one in critical.needs] == [Level.CRITICAL, Level.CRITICAL, Level.WARNING, Level.WARNING]
    assert [one.command for one in critical.needs] == [
        "snapward list",
        "snapward verify 20261123T010000Z",
        "snapward list",
        "snapward alert test",
    ]


def test_an_empty_ledger_is_a_warning_and_no_success():
    report = summarise(sample_week.facts(locations={}, next_runs={}))
    assert report.level is Level.WARNING
    assert report.subject == "[WARN] db1 - no backup known yet, disk not measured"
    assert report.newest_good is report.disk is None


def test_bad_archives_without_any_incident_are_critical_all_the_same():
    facts = sample_week.critical()
    assert summarise(replace(facts, incidents=())).level is Level.CRITICAL


def test_a_message_that_got_stuck_is_a_warning():
    stuck = Sent("ops-mail", "alert", "", "waiting", NOW - 2 * HOUR, 5, None, "HTTP 500")
    facts = sample_week.fine()
    assert summarise(replace(facts, sent=(stuck,))).level is Level.WARNING
    assert summarise(replace(facts, sent=(replace(stuck, created=NOW - 60),))).level is Level.OK


def test_this_weeks_own_report_is_not_counted_as_stuck():
    own = Sent("ops-mail", "report", WEEK.name, "waiting", WEEK.end, 0, None, "")
    report = summarise(replace(sample_week.fine(), sent=(own,)))
    assert report.alerts.undelivered == ()
    assert report.level is Level.OK


# The scorecard


def test_two_locations_are_one_row_with_its_deltas_and_tiers(fine: Report):
    alpha = row(fine, "alpha")
    assert alpha.locations == {"primary": "good", "secondary": "good"}
    assert (alpha.points, alpha.points_delta) == (12_301, 301)
    assert alpha.size_delta == 301 * 300
    assert [(one.tier, one.backups, one.good) for one in alpha.tiers] == [
        ("daily", 30, 30),
        ("weekly", 12, 12),
        ("monthly", 6, 6),
    ]
    assert alpha.last_good == WEEK.end + 2 * HOUR
    assert (alpha.runs_ok, alpha.runs_failed, alpha.runs_missed) == (8, 0, 0)


def test_one_damaged_copy_makes_the_collection_bad_and_names_its_location(critical: Report):
    alpha = row(critical, "alpha")
    assert alpha.state == "bad"
    assert alpha.why.startswith("primary: corrupt: SHA-256")
    assert alpha.last_good == WEEK.end + 2 * HOUR  # the other copy is good
    assert critical.scores.collections[0] is alpha


def test_a_copy_that_is_missing_makes_the_collection_incomplete(critical: Report):
    images = row(critical, "images")
    assert (images.state, images.why) == ("incomplete", "the newest backup is not in secondary")
    assert images.locations == {"primary": "good", "secondary": "missing"}


def test_loose_archives_are_one_row_and_unproved(critical: Report):
    loose = row(critical, "legacy-export")
    assert (loose.state, loose.points, loose.runs_ok, loose.runs_failed) == ("unknown", None, 7, 0)
    assert loose.tiers[0] == loose.tiers[0].__class__("daily", 7, 0, None)


def test_failed_and_missed_runs_count_for_every_collection_known_by_then(critical: Report):
    customers, invoices = row(critical, "customers"), row(critical, "invoices")
    assert (customers.runs_ok, customers.runs_failed, customers.runs_missed) == (6, 1, 1)
    assert (invoices.runs_failed, invoices.runs_missed) == (0, 0)
    tally = {one.job: one.outcomes for one in critical.runs}
    assert tally["backup daily"] == {"ok": 5, "failed": 1, "missed": 1}


def test_what_came_and_went_is_named(critical: Report):
    assert [one.name for one in critical.scores.never] == ["telemetry-2026"]
    assert [one.name for one in critical.scores.gone] == ["logs"]
    assert critical.scores.new == ("invoices", "legacy-export")


def test_nothing_is_new_in_the_first_week():
    folders, archives = sample_week.backup(WEEK.start + DAY, "daily")
    report = summarise(sample_week.facts(folders=tuple(folders), archives=tuple(archives)))
    assert report.scores.new == ()
    assert row(report, "alpha").points_delta is None


def test_one_backup_of_other_collections_does_not_make_the_rest_disappear():
    facts = sample_week.fine()
    more = sample_week.backup(NOW - HOUR, "daily", ("alpha",))
    report = summarise(replace(facts, folders=(*facts.folders, *more[0]), archives=(*facts.archives, *more[1])))
    assert report.scores.gone == ()
    assert report.collections == 9
    assert row(report, "logs").state == "incomplete"
    assert "was made without it" in row(report, "logs").why


def test_a_manual_backup_of_one_collection_changes_nothing():
    facts = sample_week.fine()
    more = sample_week.backup(NOW - HOUR, "manual", ("alpha",))
    report = summarise(replace(facts, folders=(*facts.folders, *more[0]), archives=(*facts.archives, *more[1])))
    assert (report.proved, report.level) == (9, Level.OK)


def test_collections_whose_archives_all_vanished_are_not_forgotten():
    folders, archives = sample_week.backup(NOW - HOUR, "daily", ("alpha",))
    gone = tuple(replace(one, vanished=NOW - 60, state=State.VANISHED) for one in archives)
    report = summarise(sample_week.facts(folders=tuple(folders), archives=gone))
    assert [(one.name, one.why) for one in report.scores.never] == [("alpha", "all its archives have vanished")]
    assert report.level is not Level.OK


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alpha.snapshot.gz", "alpha"),
        ("alpha-8348034-2026-11-23-02-00-00.snapshot", "alpha"),
        ("backup_20261123T020000Z.tar.gz", "backup"),
        ("2026-11-23_alpha.tgz", "alpha"),
        ("docs-v2.snapshot", "docs-v2"),
        ("20261123.tar.gz", "20261123"),
        ("1732345678.tgz", "1732345678"),
        (".gz", ".gz"),
    ],
)
def test_a_loose_archive_is_called_by_its_name_without_dates_and_endings(name: str, expected: str):
    assert stem(name) == expected


@given(st.text(max_size=60))
def test_every_name_has_a_stem(name: str):
    assert stem(name) or not name


# Evidence, storage, alerts, changes


def test_levels_are_counted_by_how_far_the_archives_got(critical: Report):
    assert list(critical.evidence.levels) == ["arrived", "intact", "well-formed", "restorable", "faithful"]
    arrived, intact, *beyond = critical.evidence.levels.values()
    assert arrived == intact + 8  # seven without a checksum, one corrupt
    assert beyond == [0, 0, 0]
    assert critical.evidence.bad == critical.evidence.verdicts["corrupt"] == 1
    assert critical.evidence.verdicts["no checksum"] == 7


def test_the_weeks_drills_are_counted_with_what_they_took(fine: Report, critical: Report):
    done = fine.evidence.rehearsals
    assert (done.drills, done.passed, done.collections) == (9, 9, 9)
    assert (done.engines, done.seconds) == (("qdrant-edge-py 0.9.0",), 11.0 * 45)
    done = critical.evidence.rehearsals
    assert (done.passed, done.failed, done.inconclusive) == (6, 1, 2)
    assert summarise(sample_week.empty()).evidence.rehearsals.drills == 0


def test_what_is_proved_is_as_much_as_the_least_of_all(fine: Report):
    facts = sample_week.fine()
    last = max(facts.archives, key=lambda one: one.written)
    read = tuple(replace(one, level="well-formed") if one == last else one for one in facts.archives)
    assert summarise(replace(facts, archives=read)).headline == "All 9 collections are proved well-formed."


def test_each_local_day_has_its_own_peak(fine: Report):
    primary = fine.storage[0]
    assert [one.date for one in primary.days] == [f"2026-11-{day}" for day in range(16, 23)]
    assert [one.peak for one in primary.days] == sorted(one.peak or 0 for one in primary.days)
    assert primary.samples == 7 * 96
    assert primary.trend is not None
    assert primary.trend > 0
    assert primary.largest[0].name == "städte"
    assert primary.stored == sum(one.size for one in sample_week.fine().archives if one.location == "primary")


def test_the_day_of_the_clock_change_is_one_day():
    week = week_of("2026-W43", NOW, BERLIN)
    last = replace(sample_week.fine().samples[0], at=week.end - 1, used_percent=77.0)
    report = summarise(sample_week.facts(week=week, samples=(last,)))
    assert [one.peak for one in report.storage[0].days] == [None] * 6 + [77.0]
    assert report.storage[0].days[-1].date == "2026-10-25"


def test_alerts_are_counted_with_their_messages(critical: Report):
    alerts = critical.alerts
    assert (alerts.fired, alerts.resolved, alerts.open) == (3, 1, 4)
    assert (alerts.sent, alerts.delivered) == (2, 1)
    assert alerts.median == 11.0
    assert [(one.target, one.state) for one in alerts.undelivered] == [("ops-chat", "dropped"), ("ops-chat", "waiting")]


def test_changes_name_versions_configurations_and_indexes():
    def changed(entry: CollectionEntry) -> CollectionEntry:
        return replace(entry, config={"params": {"vectors": {"size": 768}}}, payload_schema={"city": {}})

    before, after = (sample_week.backup(at, "daily", ("alpha",)) for at in (WEEK.start - DAY, WEEK.start + DAY))
    manifest = after[0][0].manifest
    newer = replace(
        manifest,
        engine={"kind": "qdrant", "version": "1.19.0"},
        collections=[changed(one) for one in manifest.collections],
    )
    folders = [*before[0], *(replace(one, manifest=newer) for one in after[0])]
    report = summarise(sample_week.facts(folders=tuple(folders), archives=(*before[1], *after[1])))
    assert [one.what.partition(" (")[0] for one in report.changes] == [
        "qdrant 1.18.2 → 1.19.0",
        "configuration of alpha changed: params",
        "payload indexes of alpha changed: +city",
    ]


# Not checked


def test_collections_of_today_that_were_never_drilled_are_named(fine: Report, critical: Report):
    assert "restore" not in unchecked(fine)
    # `logs` is not in the two newest backups any more, `invoices` is new there, and what no manifest knows counts too.
    assert unchecked(critical)["restore"] == "never rehearsed for images, invoices, legacy-export"
    none = summarise(replace(sample_week.fine(), drilled=()))
    assert unchecked(none)["restore"].endswith("documents-en and 4 more")


def test_everything_that_nobody_looked_at_is_listed(critical: Report):
    found = unchecked(critical)
    assert "nothing promises a SHA-256" in found["7 archives"]
    assert found["location secondary"] == "not available for 4 h 30 min"
    assert found["backup daily"] == "missed: the machine was off at 02:00"
    assert found["collection telemetry-2026"].startswith("no backup")
    assert "no sign of life" in found["agent"]


def test_the_time_before_the_first_record_is_not_called_an_outage():
    report = summarise(sample_week.empty())
    assert "agent" not in unchecked(report)
    assert unchecked(report)["before Sun 22 Nov 20:00:00"] == "the agent's records begin then"


def test_silence_while_a_location_is_away_is_not_blamed_on_the_agent():
    facts = sample_week.fine()
    gap = (WEEK.start + 10 * HOUR, WEEK.start + 14 * HOUR)
    quiet = replace(facts, samples=tuple(one for one in facts.samples if not gap[0] < one.at < gap[1]))
    assert "agent" in unchecked(summarise(quiet))
    away = Incident("location_hung", "primary", Level.CRITICAL, "hangs", "", gap[0], gap[0], None, gap[1])
    assert "agent" not in unchecked(summarise(replace(quiet, incidents=(away,))))


def test_overlapping_outages_of_a_location_are_counted_once():
    facts = sample_week.fine()
    start = WEEK.start - HOUR
    away = tuple(
        Incident(rule, "primary", Level.CRITICAL, "", "", start, start, None, end)
        for rule, end in [("location_hung", WEEK.start + HOUR), ("location_unavailable", WEEK.start + 2 * HOUR)]
    )
    assert summarise(replace(facts, incidents=away)).storage[0].unavailable == 2 * HOUR


# JSON


def test_the_json_has_a_schema_version_words_and_times_in_utc(critical: Report):
    data = report_json(critical)
    assert data["schema_version"] == 1
    assert data["week"] == {
        "name": "2026-W47",
        "start": "2026-11-15T23:00:00.000Z",
        "end": "2026-11-22T23:00:00.000Z",
    }
    assert data["level"] == "critical"
    assert data["needs"][0]["level"] == "critical"
    assert data["alerts"]["incidents"][0]["resolved"].endswith("Z")
    assert data["alerts"]["resolved"] == 1
    assert msgspec.json.decode(msgspec.json.encode(data)) == data


def test_no_time_is_left_as_a_bare_number(critical: Report):
    def numbers(value: object):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for one in value:
                yield from numbers(one)
        elif isinstance(value, float):
            yield value

    assert not [one for one in numbers(report_json(critical)) if one > WEEK.start - 366 * DAY]


def test_names_are_one_printable_line_everywhere():
    name = "al\npha\x1b[31m\u202egnp\udcff" + "x" * 600
    folders, archives = sample_week.backup(NOW - HOUR, "daily", (name,))
    incident = Incident("archive_bad", f"primary:daily/{name}", Level.CRITICAL, name, name, NOW, NOW)
    run = Run("backup\n", name, WEEK.start, None, "missed", name)
    facts = sample_week.facts(
        folders=tuple(folders), archives=tuple(archives), incidents=(incident,), runs=(run,), host="db\n1"
    )

    def texts(value: object):
        if isinstance(value, dict):
            value = [*value.keys(), *value.values()]
        if isinstance(value, list):
            for one in value:
                yield from texts(one)
        elif isinstance(value, str):
            yield value

    found = list(texts(report_json(summarise(facts))))
    assert all(one.isprintable() and len(one) < 700 for one in found)
