import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadConfig
from agent.settings import zone
from agent.settings.timing import CRON

SUMMER = datetime(2026, 7, 1, 12, tzinfo=UTC)


def offset(found) -> timedelta:
    return SUMMER.astimezone(found).utcoffset()


def machine(root: Path, *, localtime: str = "", timezone: str = "") -> str:
    (root / "etc").mkdir()
    if localtime:
        (root / "etc/localtime").symlink_to(localtime)
    if timezone:
        (root / "etc/timezone").write_text(timezone)
    return str(root)


def test_a_name_is_a_zone():
    assert offset(zone("Europe/Berlin")) == timedelta(hours=2)


@pytest.mark.parametrize("name", ["Nowhere/Land", "Europe", "", "..", "/etc/passwd", "a\0b"])
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(BadConfig, match="is not a time zone"):
        zone(name)


@pytest.mark.parametrize(
    ("value", "hours"),
    [("Asia/Tokyo", 9), (":Asia/Tokyo", 9), ("", 0), ("/usr/share/zoneinfo/Asia/Tokyo", 9)],
)
def test_local_is_what_tz_says(tmp_path, value, hours):
    if value.startswith("/") and not Path(value).exists():
        pytest.skip("this machine has no zone files")
    root = machine(tmp_path, localtime="/usr/share/zoneinfo/Europe/Berlin")
    assert offset(zone("local", {"TZ": value}, root)) == timedelta(hours=hours)


def test_a_tz_that_cannot_be_read_is_told_instead_of_guessed(tmp_path):
    with pytest.raises(BadConfig, match="TZ='CET-1CEST'") as caught:
        zone("local", {"TZ": "CET-1CEST"}, machine(tmp_path))
    assert "timezone: Europe/Berlin" in caught.value.hint


def test_local_is_what_etc_localtime_points_to(tmp_path):
    root = machine(tmp_path, localtime="/usr/share/zoneinfo/Asia/Tokyo", timezone="Europe/Berlin\n")
    assert str(zone("local", {}, root)) == "Asia/Tokyo"


def test_zones_with_leap_seconds_are_read_without(tmp_path):
    root = machine(tmp_path, localtime="/usr/share/zoneinfo/right/Asia/Tokyo")
    assert str(zone("local", {}, root)) == "Asia/Tokyo"


def test_local_is_what_etc_timezone_names_when_there_is_no_link(tmp_path):
    assert str(zone("local", {}, machine(tmp_path, timezone="Europe/Berlin\n"))) == "Europe/Berlin"


def test_local_is_read_from_a_copied_file(tmp_path):
    source = Path("/usr/share/zoneinfo/Asia/Tokyo")
    if not source.exists():
        pytest.skip("this machine has no zone files")
    root = machine(tmp_path)
    (tmp_path / "etc/localtime").write_bytes(source.read_bytes())
    assert offset(zone("local", {}, root)) == timedelta(hours=9)


def test_local_is_utc_on_a_machine_that_says_nothing(tmp_path):
    assert zone("local", {}, machine(tmp_path, timezone="Nowhere/Land")) is UTC


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("@daily", "0 0 * * *"),
        (" @Weekly ", "0 0 * * 0"),
        ("0  2 * * *", "0 2 * * *"),
        ("30 0 2 * * *", "30 0 2 * * *"),
        ("0 4 * * mon-fri", "0 4 * * mon-fri"),
    ],
)
def test_a_cron_line_is_kept_in_one_form(text, line):
    assert CRON.read(text) == line
    CRON.check(line)


FIELD = st.text("0123456789*/,-#LWmonsujaft²٣", min_size=1, max_size=6)


@given(st.lists(FIELD, min_size=4, max_size=7))
def test_any_text_is_either_a_cron_line_or_told_to_be_none(fields):
    try:
        line = CRON.read(" ".join(fields))
        CRON.check(line)
    except ValueError as error:
        told = str(error)
    else:
        told = f"{next(CronSim(line, SUMMER)):%c}"
    assert told


def test_the_zone_of_this_process_agrees_with_the_system():
    shown = subprocess.run(["date", "+%z"], check=True, capture_output=True, text=True).stdout.strip()
    assert datetime.now(UTC).astimezone(zone("local")).strftime("%z") == shown
