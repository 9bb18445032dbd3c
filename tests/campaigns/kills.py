"""Sudden deaths: the agent is killed at random moments while it works, and started again as systemd would."""

import contextlib
import hashlib
import logging
import os
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
from msgspec import Struct
from program import Program, archive, flip, until
from standins import Mailbox

# One line an incident, so that a message can be read back.
_TEMPLATE = "<p>{% for item in alert['items'] %}[[{{ item.word }}|{{ item.subject }}]] {% endfor %}</p>\n"
_LINE = re.compile(r"\[\[(\w+)\|(.+?)\]\]")
_TOLD = "SELECT DISTINCT notice, incident, subject FROM news JOIN incident ON incident.id = news.incident"
EVERY_SECOND = '{daily: {cron: "* * * * * *", keep: 30d}}'


class Kills(Struct, frozen=True):
    """What was seen: kills by victim, and counts of backups, interrupted runs, archives, incidents and messages."""

    seed: int
    victims: dict[str, int]
    backups: int
    interrupted: int
    lost_slots: list[float]
    archives: int
    damaged: int
    incidents: int
    messages: int
    repeated: int

    def __str__(self) -> str:
        killed = ", ".join(f"{number} x {victim}" for victim, number in sorted(self.victims.items()))
        return (
            f"killed {killed} (seed {self.seed}): {self.backups} backup folders all pass sha256sum -c,"
            f" {self.interrupted} runs were interrupted, {len(self.lost_slots)} slots lost; {self.archives} archives,"
            f" {self.damaged} of them damaged; {self.incidents} incidents in {self.messages} messages, of which"
            f" {self.repeated} came again"
        )


class Agent:
    """The agent under fire, and what it had in hand each time it was killed."""

    def __init__(self, program: Program, chance: random.Random) -> None:
        self.program, self.chance = program, chance
        self.victims: Counter[str] = Counter()
        self.cut_short: Counter[str] = Counter()  # by what the message was about
        self.messages_cut_short = 0
        self.process = self._spawn()

    def kill(self, victim: str) -> None:
        """Kill the whole tree, the daemon alone or one child, and start what has to be started."""
        assert self.process.poll() is None, f"the agent ended by itself:\n{self.program.lines()[-3000:]}"
        child, command = _child(self.process.pid, self.chance) if victim == "child" else (None, [])
        self.victims[victim if victim != "child" or child else "daemon"] += 1
        if child is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
            until(lambda: _over(child), what="the child's end")
            self._note(sends="deliver" in command)
            return
        if victim == "tree":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        self._note(sends=victim == "tree")
        self.process = self._spawn()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        self.born = time.time()
        return self.program.spawn()

    def _note(self, *, sends: bool) -> None:
        if sends:
            told = ask(self.program, f"{_TOLD} JOIN notice ON notice.id = news.notice WHERE state = 'sending'")
            self.cut_short.update(subject for _, _, subject in told)
            self.messages_cut_short += len({notice for notice, _, _ in told})


class World:
    """What goes on around the agent: archives come, some are damaged; `bad` is the truth about each."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.bad: dict[str, bool] = {}

    def stir(self) -> None:
        """Three archives come: one stays good, one was never good, and one is damaged later."""
        number = len(self.bad)
        self._come(f"{number:04}-good.snapshot", bad=False)
        self._come(f"{number:04}-bad.snapshot", bad=True)
        self._come(f"{number:04}-later.snapshot", bad=False)
        if number:
            name = f"{number - 3:04}-later.snapshot"
            flip(self.folder / name, self.chance.randrange(4096))
            self.bad[f"primary:weekly/{name}"] = True

    def _come(self, name: str, *, bad: bool) -> None:
        data = b"snapshot" + self.chance.randbytes(4088)
        if bad:
            self.folder.mkdir(exist_ok=True)
            digest = hashlib.sha256(b"other").hexdigest()
            (self.folder / f"{name}.sha256").write_text(f"{digest}  {name}\n", encoding="ascii")
        archive(self.folder, name, data, promise=not bad)
        self.bad[f"primary:weekly/{name}"] = bad


def kills(program: Program, mailbox: Mailbox, number: int, seed: int) -> Kills:
    """Kill the agent `number` times; then nothing may be lost, half written or told too often."""
    from agent.adapters import edge

    chance = random.Random(seed)  # noqa: S311 - moments that can be chosen again, not a secret
    edge.build_sample(str(program.home / "qdrant"), "articles", 200, 8)
    templates = program.home / "templates"
    templates.mkdir()
    (templates / "alert.html.j2").write_text(_TEMPLATE)
    program.environment["SSL_CERT_FILE"] = os.environ["SSL_CERT_FILE"]
    program.environment["PYTHONFAULTHANDLER"] = "1"
    program.write(
        tiers=EVERY_SECOND,
        targets=f'{{mail: {{url: "{mailbox.url()}"}}}}',
        more="templates: templates\n",
    )
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # the mail server's, which is about itself
    world, agent, clock = World(program.primary / "weekly", chance), Agent(program, chance), threading.Event()
    try:
        for _ in range(number):
            world.stir()
            moment = chance.choice(("soon", "soon", "soon", "late", "a message has arrived"))
            if moment == "a message has arrived":  # and the agent has not yet written that down
                _next_mail(mailbox, clock)
                agent.kill("tree")
                continue
            clock.wait(chance.uniform(0.05, 1.5) if moment == "soon" else chance.uniform(1.5, 4))
            agent.kill(chance.choice(("tree", "daemon", "child")))
        _come_to_rest(program, world, agent)
        agent.process.terminate()
        code = agent.process.wait(60)
        assert code == 0, f"asked to end, the agent ended with {code}:\n{program.lines()[-3000:]}"
        program.run("deliver")  # the backup that was in hand may have had a last word
    finally:
        agent.process.kill()
        agent.process.wait()
    return _looked_over(program, mailbox, world, agent, seed)


def ask(program: Program, sql: str) -> list[tuple[object, ...]]:
    """Ask the ledger, which may be just about to be made."""
    try:
        return program.query(sql)
    except sqlite3.OperationalError:
        return []


def _next_mail(mailbox: Mailbox, clock: threading.Event) -> None:
    """Wait for a message, to the millisecond, but not for ever."""
    before = len(mailbox.mails)
    for _ in range(3000):
        if len(mailbox.mails) > before:
            return
        clock.wait(0.001)


def _come_to_rest(program: Program, world: World, agent: Agent) -> None:
    def judged() -> bool:
        return _bad(program) == world.bad

    until(lambda: program.query("SELECT 1 FROM pulse WHERE part = 'agent' AND at >= ?", agent.born), 60, "the agent")
    until(judged, 60, "the last verdict")
    begun = program.query("SELECT max(id) FROM run")[0][0]
    until(lambda: program.query("SELECT 1 FROM run WHERE id > ? AND outcome = 'ok'", begun), 60, "the next backup")
    until(lambda: not program.query("SELECT 1 FROM notice WHERE state != 'delivered'"), 60, "the last message")


def _bad(program: Program) -> dict[str, bool]:
    return {key: state != "good" for key, state in program.states().items() if ":weekly/" in key}


def _looked_over(program: Program, mailbox: Mailbox, world: World, agent: Agent, seed: int) -> Kills:
    assert program.query("PRAGMA quick_check") == [("ok",)]
    assert _bad(program) == world.bad
    folders = list(_published(program))
    outcomes = Counter(row[0] for row in program.query("SELECT outcome FROM run WHERE job = 'backup'"))
    assert not outcomes["running"]
    lost = _lost_slots(program)
    messages, repeated = _told(program, mailbox, agent)
    heard = {subject for mail in mailbox.mails for _, subject in _items(mail)}
    unheard = {subject for subject, bad in world.bad.items() if bad} - heard
    assert not unheard, f"nobody heard of {unheard}"
    cried_wolf = {subject for subject in heard if subject in world.bad and not world.bad[subject]}
    assert not cried_wolf, f"{cried_wolf} were told to be bad"
    return Kills(
        seed=seed,
        victims=dict(agent.victims),
        backups=len(folders),
        interrupted=outcomes["interrupted"],
        lost_slots=lost,
        archives=len(world.bad),
        damaged=sum(world.bad.values()),
        incidents=program.query("SELECT count(*) FROM incident WHERE opened IS NOT NULL")[0][0],
        messages=messages,
        repeated=repeated,
    )


def _published(program: Program) -> Iterator[Path]:
    """Every published backup folder, once it has passed coreutils' own check."""
    for root in (program.primary, program.secondary):
        incoming = root / ".incoming"
        assert not incoming.exists() or not list(incoming.iterdir()), f"{list(incoming.iterdir())} were left behind"
        for folder in root.glob("daily/*"):
            assert (folder / "manifest.json").exists(), folder
            check = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
            done = subprocess.run(check, cwd=folder, capture_output=True, check=False)
            assert done.returncode == 0, f"{folder}: {done.stdout!r} {done.stderr!r}"
            yield folder


def _lost_slots(program: Program) -> list[float]:
    """Slots, one a second, of which the ledger does not say what became of them."""
    known: set[float] = set()
    for slot, outcome, why in program.query("SELECT slot, outcome, why FROM run WHERE job = 'backup'"):
        several = re.match(r"([\d,]+) runs? of", why) if outcome == "missed" else None
        known |= {slot - number for number in range(int(several[1].replace(",", "")) if several else 1)}
    return [float(second) for second in range(int(min(known)), int(max(known))) if second not in known]


def _told(program: Program, mailbox: Mailbox, agent: Agent) -> tuple[int, int]:
    """See that each message was delivered, and again only when a kill had cut its delivery short."""
    silent = program.query(
        "SELECT DISTINCT rule, subject FROM incident WHERE opened IS NOT NULL AND id NOT IN"
        " (SELECT incident FROM news JOIN notice ON notice.id = news.notice WHERE state = 'delivered')"
    )
    assert not silent, f"{silent} were never told"
    least = Counter(subject for _, _, subject in program.query(_TOLD))
    heard = Counter(subject for mail in mailbox.mails for _, subject in _items(mail))
    for name in least.keys() | heard.keys():
        most = least[name] + agent.cut_short[name]
        assert least[name] <= heard[name] <= most, f"{name}: {least[name]} <= {heard[name]} <= {most}"
    messages = program.query("SELECT count(*) FROM notice")[0][0]
    assert messages <= len(mailbox.mails) <= messages + agent.messages_cut_short
    return len(mailbox.mails), len(mailbox.mails) - messages


def _items(mail: object) -> list[tuple[str, str]]:
    body = mail.get_body(("html",))  # type: ignore[attr-defined] # standins keep what the standard library parsed
    return _LINE.findall(" ".join(body.get_content().split()))


def _child(parent: int, chance: random.Random) -> tuple[psutil.Process | None, list[str]]:
    """One of the agent's children and its command; None if there is none for a second."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found[:] = [one for one in psutil.Process(parent).children() if not _over(one)]
        return bool(found)

    try:
        until(look, 1)
        child = chance.choice(found)
        return child, child.cmdline()
    except (AssertionError, psutil.Error):
        return None, []


def _over(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
