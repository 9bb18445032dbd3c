import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings import Span
from agent.settings.units import KEEP, PERCENT, SIZE, duration, mode, write_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("200ms", 0.2),
        ("2s", 2.0),
        ("90 m", 5400.0),
        ("12h", 43_200.0),
        ("30d", 2_592_000.0),
        ("12w", 7_257_600.0),
        ("24mo", 2 * 365.25 * 86_400),
    ],
)
def test_a_duration_is_seconds(text, seconds):
    assert duration().read(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "2", "2 years", "2.5h", "-1s", "1h30m", "٣s", "2S", "9999999999999s", "2000mo"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"^$|has no unit|hundred years"):
        duration().read(text)


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d", "w", "mo"]))
def test_a_duration_survives_being_written_and_read(amount, unit):
    try:
        seconds = duration().read(f"{amount}{unit}")
    except ValueError:
        return
    assert duration().read(write_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(("seconds", "text"), [(43_200.0, "12h"), (180 * 86_400.0, "180d"), (0.0, "0s"), (90.0, "90s")])
def test_a_duration_is_written_in_its_largest_whole_unit(seconds, text):
    assert write_duration(seconds) == text


def test_keep_is_an_age_or_a_count():
    assert [KEEP.read(text) for text in ("30d", "12w", "24mo", "7")] == [
        Span(30, "d"),
        Span(12, "w"),
        Span(24, "mo"),
        7,
    ]
    assert [KEEP.write(KEEP.read(text)) for text in ("24 mo", "7")] == ["24mo", 7]
    assert Span(12, "w").seconds() == 12 * 7 * 86_400.0


@pytest.mark.parametrize("text", ["30x", "12h", "-1d", "1.5d", "99999d", ""])
def test_what_is_no_keep_is_refused(text):
    with pytest.raises(ValueError, match=r"^$"):
        KEEP.read(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("0", 0), ("1KiB", 1024), ("1kib", 1024), ("10MB", 10_000_000), ("2 GiB", 2**31), ("7B", 7)],
)
def test_a_size_is_bytes(text, size):
    assert SIZE.read(text) == size


@given(st.integers(0, 10**11))
def test_a_size_survives_being_written_and_read(size):
    assert SIZE.read(str(SIZE.write(size))) == size


@pytest.mark.parametrize(
    ("text", "value"), [("80%", 80.0), ("80", 80.0), ("85.5 %", 85.5), ("0%", 0.0), ("100", 100.0)]
)
def test_a_percentage_is_a_number_up_to_100(text, value):
    assert PERCENT.read(text) == value


@pytest.mark.parametrize("text", ["101%", "-1%", "nan", "inf", "1e1", "%", "80%%"])
def test_what_is_no_percentage_is_refused(text):
    with pytest.raises(ValueError, match=r"^$|more than 100%"):
        PERCENT.read(text)


@pytest.mark.parametrize(("text", "bits"), [("640", 0o640), ("0640", 0o640), ("0o640", 0o640), ("2750", 0o2750)])
def test_a_mode_is_octal_however_it_is_written(text, bits):
    assert mode(0o600, "640").read(text) == bits


@pytest.mark.parametrize("text", ["64", "888", "rw-r-----", "0x1a0", "77777", "440"])
def test_what_is_no_usable_mode_is_refused(text):
    with pytest.raises(ValueError, match=r"^$|owner's own rights"):
        mode(0o600, "640").read(text)
