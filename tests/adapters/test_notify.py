import logging
import subprocess
import sys
from pathlib import Path

import pytest
from apprise import Apprise
from program import until
from standins import Mailbox, Sink, Slack

from agent.adapters.notify import _be_patient, send, unusable
from agent.rules.finding import Level
from agent.rules.message import Message

# Loading all of apprise's plugins loads what some of them use.
pytestmark = pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")

ALERT = Message(
    "[CRITICAL] db1: archive damaged",
    "docs.snapshot.gz\nis damaged <!channel>",
    "short <!channel> & <@U1>",
    level=Level.CRITICAL,
)
HTML = Message("report", "text", "short", "<p>All <b>7</b> archives are good</p>")
SECRETS = ("s3cr%3At", "s3cr:t", "TOKENtoken123", "hunter2%2F", "hunter2/", "hunter2")


# --- mail


def test_mail_with_html_arrives_in_both_forms_after_starttls_and_login(smtp_server: Mailbox) -> None:
    assert send(smtp_server.url(), HTML).error == ""
    (mail,) = smtp_server.mails
    assert mail.get_content_type() == "multipart/alternative"
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert plain.get_content().strip() == "All 7 archives are good"
    assert "<b>7</b>" in rich.get_content()
    assert mail["Subject"] == "report"


def test_mail_without_html_arrives_as_the_text_it_is(smtp_server: Mailbox) -> None:
    assert send(smtp_server.url(), ALERT).ok
    (mail,) = smtp_server.mails
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().strip().splitlines() == ALERT.text.splitlines()
    assert mail["Subject"] == ALERT.title


def test_mail_takes_the_attachments_that_exist_and_goes_without_those_that_do_not(
    smtp_server: Mailbox, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text("<p>all</p>")
    message = Message("report", "text", "short", "<p>x</p>", Level.OK, (str(tmp_path / "report.html"), "/gone.html"))
    assert send(smtp_server.url(), message).ok
    (mail,) = smtp_server.mails
    assert [part.get_filename() for part in mail.iter_attachments()] == ["report.html"]


def test_mail_to_a_server_that_is_down_says_so_and_arrives_once_when_it_is_up(smtp_server: Mailbox) -> None:
    smtp_server.stop()
    assert send(smtp_server.url(), ALERT).error == "Connection refused"
    smtp_server.start()
    assert send(smtp_server.url(), ALERT).ok
    assert len(smtp_server.mails) == 1


def test_a_refused_recipient_is_named_with_the_servers_words(smtp_server: Mailbox) -> None:
    smtp_server.refused = {"gone@example.org"}
    answer = send(smtp_server.url("gone@example.org"), ALERT)
    assert answer.error == "gone@example.org was refused: 550 5.1.1 nobody of this name"
    assert not answer.ok


def test_one_refused_recipient_of_two_makes_the_mail_not_sent(smtp_server: Mailbox) -> None:
    smtp_server.refused = {"gone@example.org"}
    answer = send(smtp_server.url("ops@example.org,gone@example.org"), ALERT)
    assert "gone@example.org was refused" in answer.error
    assert smtp_server.recipients == [["ops@example.org"]]


def test_a_message_refused_after_its_data_is_told_with_the_code(smtp_server: Mailbox) -> None:
    smtp_server.answer = "452 4.3.1 mailbox full"
    assert send(smtp_server.url(), ALERT).error == "452 4.3.1 mailbox full"


def test_a_wrong_password_is_told_without_the_password(smtp_server: Mailbox) -> None:
    answer = send(smtp_server.url(password="hunter2%2F"), ALERT)
    assert answer.error.startswith("535 ")
    assert "hunter2" not in answer.error


def test_a_mail_server_that_repeats_the_password_is_quoted_without_it(smtp_server: Mailbox) -> None:
    smtp_server.answer = f"554 5.7.0 so {smtp_server.password} is it\x1b[31m"
    assert send(smtp_server.url(), ALERT).error == "554 5.7.0 so *** is it [31m"


def test_a_mail_server_nobody_vouches_for_is_not_trusted(smtp_server: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert send(smtp_server.url(), ALERT).error.startswith("its certificate is not trusted: ")
    assert smtp_server.mails == []


# --- Slack


def test_slack_gets_the_short_form_and_wakes_nobody_by_its_content(slack_server: Slack) -> None:
    assert send(slack_server.url(), ALERT).error == ""
    (payload,) = slack_server.arrived
    assert slack_server.paths == [f"/services/{slack_server.token}"]
    told = repr(payload)
    assert "short &lt;!channel&gt; &amp; &lt;@U1&gt;" in told
    assert "<" not in told
    assert "docs.snapshot.gz" not in told
    assert ALERT.title in told
    assert "http" not in told


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"invalid_payload", "invalid_payload"),
        (404, b"no_service", "no_service"),
        (429, b"rate_limited", "429"),
        (500, b"", "500"),
    ],
)
def test_what_slack_answers_is_told(slack_server: Slack, status: int, body: bytes, told: str) -> None:
    slack_server.status, slack_server.body = status, body
    answer = send(slack_server.url(), ALERT)
    assert not answer.ok
    assert told in answer.error
    assert not any(part in answer.error for part in slack_server.token.split("/"))


def test_a_slack_nobody_vouches_for_is_not_trusted(slack_server: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert send(slack_server.url(), ALERT).error.startswith("its certificate is not trusted: ")


def test_a_proxy_that_refuses_is_told_without_the_token(slack_server: Slack) -> None:
    answer = send("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", ALERT)
    assert "403" in answer.error
    assert "JHMHI8" not in answer.error
    assert "4174216298" not in answer.error


# --- other targets


def test_a_web_hook_gets_title_and_text(http_sink: Sink) -> None:
    assert send(http_sink.url(), ALERT).ok
    (payload,) = http_sink.arrived
    assert (payload["title"], payload["message"], payload["type"]) == (ALERT.title, ALERT.chat, "failure")


def test_console_prints_without_apprise() -> None:
    code = (
        "import sys; from agent.adapters.notify import send; from agent.rules.message import Message;"
        "print(send('console://', Message('title', 'text', 'chat')).ok, 'apprise' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "title\ntext\nTrue False\n"


def test_a_server_that_never_answers_is_given_up_after_the_timeout(http_sink: Sink) -> None:
    http_sink.hangs = True
    assert send(http_sink.url(), ALERT, timeout=0.3).error == "no answer within 300 ms"
    assert until(lambda: http_sink.arrived)


def test_a_hung_target_does_not_hold_up_the_end_of_the_process(http_sink: Sink) -> None:
    http_sink.hangs = True
    code = (
        "import sys; from agent.adapters.notify import send; from agent.rules.message import Message;"
        f"send({http_sink.url()!r}, Message('t', 't', 't'), timeout=1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=10)


def test_a_server_that_is_slow_to_answer_is_waited_for(http_sink: Sink) -> None:
    http_sink.hangs = True
    assert send(f"{http_sink.url()}?rto=0.2", ALERT).error == "no answer in time"


@pytest.mark.parametrize(
    ("url", "seconds"),
    [
        ("json://h", (10.0, 20.0)),
        ("json://h?rto=4&cto=3", (3.0, 4.0)),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", (10.0, 20.0)),
    ],
)
def test_a_service_is_waited_for_longer_than_apprise_would_unless_the_url_says_how_long(
    url: str, seconds: tuple[float, float]
) -> None:
    service = Apprise.instantiate(url)
    assert service is not None
    _be_patient(service, url)
    assert service.request_timeout == seconds


# --- secrets and wrong URLs


@pytest.mark.parametrize(
    "url",
    [
        "mailtos://agent:s3cr%3At@localhost:1/?from=a@example.org&to=b@example.org",
        "mailtos://agent:hunter2%2F@localhost:1/?from=a@example.org&to=b@example.org&+X-Token=TOKENtoken123",
        "json://agent:s3cr%3At@127.0.0.1:1/TOKENtoken123?+X-Key=hunter2",
        "ntfy://agent:TOKENtoken123@127.0.0.1:1/hunter2",
        "slack://TOKENtoken123/hunter2",
        "discord://TOKENtoken123",
        "tgram://TOKENtoken123/hunter2",
        "slak://TOKENtoken123/hunter2",
        "mailtos://hunter2",
        "TOKENtoken123",
        "mailtos://agent:hunter2@localhost:1?to=b@example.org&+Auth=TOKENtoken123",
        "https://hooks.example.org/TOKENtoken123",
    ],
)
def test_no_secret_of_a_url_gets_into_errors_or_logs(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = send(url, ALERT)
    out, err = capfd.readouterr()
    everything = "\n".join([answer.error, unusable(url) or "", caplog.text, out, err])
    assert answer.error
    assert not [secret for secret in SECRETS if secret in everything]
    assert url not in everything


@pytest.mark.parametrize(
    ("written", "repeated"),
    [
        ("TOKENtoken123", b"TOKENtoken123"),
        ("TOKEN%2Ftoken", b"TOKEN/token"),
        ("TOKEN%252Ftoken", b"TOKEN/token"),
        ("TOKEN%20token", b"TOKEN+token"),
    ],
)
def test_an_answer_that_repeats_the_token_is_told_without_it(http_sink: Sink, written: str, repeated: bytes) -> None:
    http_sink.status, http_sink.body = 403, b"token " + repeated + b" is not known"
    answer = send(http_sink.url(written), ALERT)
    assert "token *** is not known" in answer.error


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("slak://a/b/c", "apprise knows no service 'slak'; did you mean slack?"),
        ("qqqqqq://x", "apprise knows no service 'qqqqqq'"),
        ("ops@example.org", "it does not begin with a service, as slack:// and mailtos:// do"),
        ("https://example.org/hook", "a web hook of your own is jsons://host/path"),
        ("slack://a", "apprise cannot use this slack:// address: An invalid Slack"),
        ("mailtos://user:word@example.org?to=nobody", "Dropped invalid To email"),
        ("json://", "apprise cannot read this json:// address; https://"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_with_advice(url: str, why: str) -> None:
    assert why in (unusable(url) or "")


@pytest.mark.parametrize(
    "url",
    ["console://", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "json://h/x", "mailto://u:p@x.example"],
)
def test_a_url_that_can_be_used_is_fine(url: str) -> None:
    assert unusable(url) is None
