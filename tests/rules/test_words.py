import os
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.words import count, moment, printable, raw, rfc3339, size, span

file_names = st.one_of(
    st.binary(max_size=60),
    st.text("a\\x4é\n\x85\u202e", max_size=20).map(str.encode),
).map(os.fsdecode)  # fmt: skip


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (12.7, "13 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (-1536, "-1.5 KiB"),
        (102_348, "99.9 KiB"),
        (102_400, "100 KiB"),
        (999 * 1024, "999 KiB"),
        (1_023_488, "0.976 MiB"),
        (1000 * 1024 - 1, "0.977 MiB"),
        (1000 * 1024, "0.977 MiB"),
        (5 << 30, "5 GiB"),
        (1 << 40, "1 TiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_a_size_has_three_digits_and_a_binary_unit(n: float, words: str) -> None:
    assert size(n) == words


@given(st.integers(1, 999 << 40))
def test_a_size_is_never_off_by_more_than_its_third_digit(n: int) -> None:
    number, unit = size(n).split()
    value = float(number) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    assert value == pytest.approx(n, rel=0.0051)
    assert len(number.replace(".", "").lstrip("0")) <= 3


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"),
        (0.35, "350 ms"),
        (1, "1.0 s"),
        (-3.2, "3.2 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (99, "99 s"),
        (100, "2 min"),
        (300, "5 min"),
        (3569, "59 min"),
        (3600, "1 h"),
        (3629, "1 h"),
        (3630.1, "1 h 1 min"),
        (12_000, "3 h 20 min"),
        (48 * 3600 - 1, "48 h"),
        (48 * 3600, "2 days"),
        (30 * 86_400, "30 days"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (count(0, "archive"), "0 archives"),
        (count(1, "archive"), "1 archive"),
        (count(12_000, "archive"), "12,000 archives"),
        (count(1, "copy", "copies"), "1 copy"),
        (count(2, "copy", "copies"), "2 copies"),
    ],
)
def test_a_number_agrees_with_its_noun(words: str, expected: str) -> None:
    assert words == expected


def test_times_are_written_for_machines_in_utc_and_for_people_in_their_zone() -> None:
    assert rfc3339(1_795_399_205.5) == "2026-11-23T02:00:05.500Z"
    assert rfc3339(0.0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(None) is None
    assert moment(1_795_399_205.5, UTC) == "Mon 23 Nov 02:00:05"
    assert moment(1_795_399_205.5, ZoneInfo("Asia/Tokyo")) == "Mon 23 Nov 11:00:05"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain name.gz", "plain name.gz"),
        ("Größe".encode(), "Größe"),
        (b"a\nb", "a\\x0ab"),
        (b"a\\b", "a\\x5cb"),
        (b"\\x41", "\\x5cx41"),
        (b"a\xffb", "a\\xffb"),
        ("a\u202eb".encode(), "a\\xe2\\x80\\xaeb"),
        (b"", ""),
    ],
)
def test_what_could_deceive_a_reader_is_written_as_bytes(name: bytes, shown: str) -> None:
    assert printable(os.fsdecode(name)) == shown
    assert raw(shown) == os.fsdecode(name)


@given(file_names)
def test_every_file_name_is_printed_safely_and_found_again(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert os.fsencode(shown).decode() == shown
    assert raw(shown) == name


@given(st.text())
def test_a_printed_name_is_printed_the_same_way_only_once(text: str) -> None:
    shown = printable(text)
    assert (printable(shown) == shown) == ("\\" not in shown)
