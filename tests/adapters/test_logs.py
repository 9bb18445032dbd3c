import json
import logging
import time
from collections.abc import Iterator

import pytest

from agent.adapters import logs

SECRET = "p@ss/w0rd"
LONGER = "p@ss/w0rd-and-more"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The log of the test run is not ours to keep changed."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_line_has_its_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("text")
    logging.getLogger("agent.daemon").warning("%s vanished", "daily/a.gz")
    (line,) = said(capsys)
    at, level, rest = line.split(" ", 2)
    assert time.strptime(at, "%H:%M:%S")
    assert (level, rest) == ("warning", "daily/a.gz vanished")


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_the_journal_gets_a_priority_and_no_second_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, level: int, priority: int
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1234")
    logs.begin("text", verbose=True)
    logging.getLogger("x").log(level, "said")
    assert said(capsys) == [f"<{priority}>said"]


def test_every_line_of_a_long_message_keeps_its_priority(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1234")
    logs.begin("text")
    logging.getLogger("x").error("one\ntwo")
    assert said(capsys) == ["<3>one", "<3>two"]


def test_json_has_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("json")
    try:
        raise ValueError("it says \"no\"\nand 'städte'")
    except ValueError:
        logging.getLogger("agent.x").exception("failed")
    (line,) = said(capsys)
    told = json.loads(line)
    assert (told["level"], told["part"]) == ("error", "agent.x")
    assert time.strptime(told["at"], "%Y-%m-%dT%H:%M:%SZ")
    assert told["message"].startswith("failed\nTraceback (most recent call last):")
    assert told["message"].endswith("ValueError: it says \"no\"\nand 'städte'")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_secret_is_masked_wherever_it_turns_up(capsys: pytest.CaptureFixture[str], form: str) -> None:
    logs.begin(form)
    logs.hide([SECRET, "", LONGER])
    log = logging.getLogger("urllib3.connectionpool")
    log.warning("POST https://bot:%s@example.org", SECRET)
    log.warning(LONGER)
    try:
        try:
            raise OSError(SECRET)
        except OSError as error:
            raise ValueError(f"x{LONGER}x") from error
    except ValueError:
        log.exception("with %s", {"password": SECRET})
    text = "\n".join(said(capsys))
    assert SECRET not in text
    assert "-and-more" not in text
    assert "https://bot:***@example.org" in text
    assert "x***x" in text
    assert "{'password': '***'}" in text


def test_what_is_hidden_later_replaces_what_was_hidden_before(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("text")
    logs.hide(["first"])
    logs.hide(["second"])
    logging.getLogger("x").warning("first second")
    assert said(capsys)[0].endswith(" first ***")


def test_of_two_secrets_the_longer_one_is_masked_whole() -> None:
    assert logs.masked(f"{LONGER} {SECRET}", [SECRET, LONGER]) == "*** ***"
    assert logs.masked("nothing here", [SECRET, ""]) == "nothing here"


def test_chatty_libraries_say_only_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("text", verbose=True)
    for name in ("apprise", "urllib3.connectionpool", "watchdog.observers", "schedule", "markdown.core"):
        logging.getLogger(name).debug(SECRET)
        logging.getLogger(name).info(SECRET)
    logging.getLogger("agent.x").debug("seen")
    logging.getLogger("urllib3").warning("failed")
    assert [line.split(" ", 1)[1] for line in said(capsys)] == ["debug   seen", "warning failed"]


def test_details_are_said_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("text")
    logging.getLogger("agent.x").debug("detail")
    logging.getLogger("agent.x").info("news")
    assert [line.split(" ", 1)[1] for line in said(capsys)] == ["info    news"]


def test_to_begin_again_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("json")
    logs.begin("text")
    logging.getLogger("x").warning("once")
    assert len(said(capsys)) == 1


def test_a_name_that_cannot_be_printed_does_not_break_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("json")
    logging.getLogger("x").warning("caf\udce9.gz")
    assert json.loads(said(capsys)[0])["message"] == "caf\udce9.gz"
