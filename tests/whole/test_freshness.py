"""What is late, by the program itself: found by its round, shown by `status`, told once, and over by itself."""

import sqlite3

from program import Program

from agent.adapters import edge

DAYS = 3 * 86_400.0


def test_what_never_ran_is_told_and_is_over_once_it_has(program: Program) -> None:
    edge.build_sample(str(program.home / "qdrant"), "articles", 50, 8)
    program.write(tiers='{daily: {cron: "0 2 * * *", keep: 30d, grace: 1h}}', more="report: {cron: '0 5 * * *'}\n")
    with program.agent():
        pass
    program.run("upkeep")
    assert program.open_incidents() == {}, "a fresh install is not late"
    with sqlite3.connect(program.state / "ledger.db") as db:
        db.execute("UPDATE pulse SET at = at - ? WHERE part LIKE 'since:%'", (DAYS,))
    program.run("upkeep")
    late = {("backup_late", "daily"), ("cleanup_late", "cleanup"), ("reread_late", "reread"), ("report_late", "report")}
    assert late <= program.open_incidents().keys()
    told = program.query("SELECT count(*) FROM incident")
    program.run("upkeep")
    assert program.query("SELECT count(*) FROM incident") == told, "each is opened once"
    status = program.json("status", expect=2)
    assert status["tiers"]["daily"]["state"] == "critical"
    assert "no good backup yet" in status["tiers"]["daily"]["why"]
    assert ("backup_late", "daily") in {(one["rule"], one["subject"]) for one in status["findings"]}
    program.run("backup", "daily")
    program.run("verify", expect=None)
    program.run("report", "send", expect=1)
    program.run("upkeep")
    assert program.open_incidents().keys() & late == {("cleanup_late", "cleanup"), ("reread_late", "reread")}
    assert program.json("status", expect=None)["tiers"]["daily"]["state"] == "ok"
