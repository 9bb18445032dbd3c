"""From a damaged byte to somebody's mailbox and chat, with the agent as a process."""

import os
import signal
import time
from pathlib import Path

import pytest
from program import Program, archive, flip, until
from standins import Mailbox, Sink, Slack


def damaged(program: Program, name: str) -> Path:
    path = archive(program.primary / "daily", name)
    until(lambda: program.states().get(f"primary:daily/{name}") == "good", what="the verdict")
    flip(path, 7)
    return path


def trusting(program: Program) -> None:
    """The servers' certificates are trusted by the environment that the fixtures made, and only by that."""
    for name in ("SSL_CERT_FILE", "HTTPS_PROXY", "REQUESTS_CA_BUNDLE"):
        if name in os.environ:
            program.environment[name] = os.environ[name]


def test_mail_and_chat_hear_of_damage_and_of_its_end(
    program: Program, smtp_server: Mailbox, slack_server: Slack
) -> None:
    trusting(program)
    program.write(targets=f'{{mail: {{url: "{smtp_server.url()}"}}, chat: {{url: "{slack_server.url()}"}}}}')
    with program.agent():
        path = damaged(program, "a.snapshot")
        until(lambda: smtp_server.mails and slack_server.arrived, what="the alert")
        flip(path, 7)
        until(lambda: len(smtp_server.mails) == 2 and len(slack_server.arrived) == 2, what="the end of it")
    opened, resolved = smtp_server.mails
    assert "CRITICAL" in opened["Subject"]
    assert "RESOLVED" in resolved["Subject"]
    kinds = [part.get_content_type() for part in opened.walk() if not part.is_multipart()]
    assert kinds[:2] == ["text/plain", "text/html"]
    body = opened.get_body(("plain",))
    assert body is not None
    assert "primary:daily/a.snapshot" in body.get_content()
    assert "primary:daily/a.snapshot" in str(slack_server.arrived[0])


def test_while_mail_is_down_nothing_is_lost_and_chat_goes_on(
    program: Program, smtp_server: Mailbox, http_sink: Sink
) -> None:
    trusting(program)
    smtp_server.stop()
    program.write(targets=f'{{mail: {{url: "{smtp_server.url()}"}}, chat: {{url: "{http_sink.url()}"}}}}')
    with program.agent() as process:
        damaged(program, "a.snapshot")
        until(lambda: http_sink.arrived, what="the chat's alert")
        until(lambda: program.query("SELECT 1 FROM notice WHERE target = 'mail' AND attempts > 0 AND error != ''"))
        process.send_signal(signal.SIGKILL)
        process.wait()
    smtp_server.start()
    with program.agent():
        # The next thing that happens takes along what has waited.
        damaged(program, "b.snapshot")
        until(lambda: smtp_server.mails, what="the mail")
        until(lambda: len(http_sink.arrived) == 2)
    assert len(smtp_server.mails) == 1
    body = smtp_server.mails[0].get_body(("plain",))
    assert body is not None
    assert "a.snapshot" in body.get_content()
    assert "b.snapshot" in body.get_content()


def test_the_weekly_report_is_sent_once_even_if_asked_twice(program: Program, smtp_server: Mailbox) -> None:
    trusting(program)
    program.write(targets=f'{{mail: {{url: "{smtp_server.url()}", reports: true}}}}')
    assert program.json("report", "send", "--week", "2026-W10")["sent_now"] == ["mail"]
    assert program.json("report", "send", "--week", "2026-W10")["sent_now"] == []
    assert len(smtp_server.mails) == 1
    assert "snapward" in str(smtp_server.mails[0].get_body(("html",)))


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_kill_between_rendering_and_sending_sends_the_week_once(
    program: Program, smtp_server: Mailbox, where: str
) -> None:
    """Rendered and killed: the next send sends it. Queued and killed: the agent sends it."""
    trusting(program)
    program.write(targets=f'{{mail: {{url: "{smtp_server.url()}", reports: true}}}}')
    with program.agent():  # makes the ledger
        pass
    program.run("report", "render", "--week", "2026-W10")
    if where == "before":
        program.run("report", "send", "--week", "2026-W10")
    else:
        from agent.adapters import ledger
        from agent.jobs import report

        db = ledger.connect(str(program.state))
        report.enqueue(db, "2026-W10", ["mail"], 0.0)
        db.close()
        with program.agent():
            until(lambda: smtp_server.mails)
    program.run("report", "send", "--week", "2026-W10")
    assert len(smtp_server.mails) == 1


def test_a_test_message_reaches_each_target_and_a_failure_is_told(
    program: Program, smtp_server: Mailbox, http_sink: Sink
) -> None:
    trusting(program)
    program.write(targets=f'{{mail: {{url: "{smtp_server.url()}"}}, chat: {{url: "{http_sink.url()}"}}}}')
    results = program.json("alert", "test")["results"]
    assert [one["ok"] for one in results] == [True, True]
    assert len(smtp_server.mails) == len(http_sink.arrived) == 1
    http_sink.status = 500
    results = program.json("alert", "test", "chat", expect=2)["results"]
    assert results[0]["error"]


def test_no_secret_appears_anywhere(program: Program, smtp_server: Mailbox) -> None:
    """A planted password, in the URL and by reference: searched for in every answer, log and file of ours."""
    trusting(program)
    program.environment["MAIL_PASSWORD"] = "hunter2-planted-secret"
    url = smtp_server.url().replace("p%40ss%2Fw0rd", "${env:MAIL_PASSWORD}")
    literal = "slack://T1JJ3T3L2/A1BRTD4JD/PlantedTokenPlantedToken99"
    program.write(targets=f'{{mail: {{url: "{url}"}}, chat: {{url: "{literal}"}}}}', scan_every="1s")
    planted = ("hunter2-planted-secret", "PlantedTokenPlantedToken99")
    with program.agent("-v"):
        damaged(program, "a.snapshot")
        until(lambda: len(program.query("SELECT 1 FROM notice WHERE attempts > 0 AND error != ''")) == 2, 60)
        said = [
            program.run(*command, expect=None)
            for command in (
                ("config", "show"),
                ("config", "show", "--json"),
                ("config", "validate"),
                ("check",),
                ("status",),
                ("alert", "list"),
                ("alert", "test"),
                ("report", "render", "--week", "current"),
            )
        ]
    texts = [one.stdout + one.stderr for one in said] + [program.lines()]
    files = [path.read_bytes().decode("latin-1") for path in program.state.rglob("*") if path.is_file()]
    for secret in planted:
        assert not [text for text in texts if secret in text]
        assert not [text for text in files if secret in text]


def test_a_report_whose_process_was_killed_is_sent_by_the_next_life(program: Program, smtp_server: Mailbox) -> None:
    """Its slot was taken, and the run never began; or it began, and died between rendering and sending."""
    from agent.adapters import ledger
    from agent.adapters.ledger import runs

    trusting(program)
    program.write(targets=f'{{mail: {{url: "{smtp_server.url()}", reports: true}}}}')
    db = ledger.connect(str(program.state), create=True)
    with ledger.writing(db):
        runs.begin(db, "report", "2026-W10", None, 0.0)
        db.execute("UPDATE run SET boot = 'another life'")
    db.close()
    with program.agent():
        until(lambda: smtp_server.mails, what="the report")
    assert "2026-W10" in str(smtp_server.mails[0])
    db = ledger.connect(str(program.state))
    with ledger.writing(db):
        runs.take_slot(db, "report", float(int(time.time()) - 3600))
        db.execute("DELETE FROM run")
    db.close()
    program.write(
        targets=f'{{mail: {{url: "{smtp_server.url()}", reports: true}}}}', more='report: {cron: "0 * * * *"}\n'
    )
    with program.agent():
        until(lambda: len(smtp_server.mails) == 2, what="the week that was never begun")
