import gzip
import hashlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import sample_week
from msgspec.structs import replace
from sample_week import BERLIN, DAY, NOW, local

from agent.adapters import edge, snapshot_tar
from agent.adapters.ledger.incidents import News, Notice
from agent.adapters.pages import CHAT, alert_message, report_pages, restore_notes
from agent.files import shipped
from agent.rules.alert import inert
from agent.rules.archive import State
from agent.rules.facts import Facts
from agent.rules.finding import Level
from agent.rules.incident import Change, Incident
from agent.rules.manifest import CollectionEntry, Failure, FileEntry, Manifest
from agent.rules.message import Message
from agent.rules.report import report_json
from agent.rules.summary import summarise
from agent.rules.words import count, moment, printable, rfc3339, size, span

AT = local("2026-11-23 02:00:00")
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "<!channel> @everyone <@U1>",
    "line\nbreak\r\nSubject: forged",
    "x" * 300,
    printable("b\udcffd\udc80"),
    "{{ 7 * 7 }}{% raw %}",
)


class Page(HTMLParser):
    """The tags, attributes and visible words of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._quiet = 0
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self._open.append(tag)
        self._quiet += tag in {"style", "title"}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._quiet -= tag in {"style", "title"}

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.words += f"{data} "


def incident(subject: str = "primary:daily/20261123T010000Z/alpha.snapshot.gz", **more) -> Incident:
    values = {"why": "corrupt: SHA-256 differs", "hint": "Run `snapward list`.", "since": AT, "opened": AT, **more}
    return Incident("archive_bad", subject, Level.CRITICAL, **values)


def news(one: Incident, change: Change = Change.OPENED, at: float = AT) -> News:
    return News(one, change, at, one.level, one.why)


def notice(kind: str = "alert", fallback_of: int | None = None) -> Notice:
    return Notice(1, "ops-mail", kind, "", "sending", AT, AT, 1, None, "", fallback_of)


def message(*what: News, kind: str = "alert", folder: Path | None = None, fallback_of: int | None = None) -> Message:
    where = str(folder) if folder else None
    return alert_message(notice(kind, fallback_of), what, host="db1", zone=BERLIN, folder=where)


def hostile_facts(name: str) -> Facts:
    folders, archives = sample_week.backup(NOW - DAY, "daily", (name,))
    bad = [replace(one, state=State.CORRUPT, level="arrived", why=name) for one in archives]
    return sample_week.facts(
        host=name,
        folders=tuple(folders),
        archives=tuple(bad),
        incidents=(incident(f"primary:daily/{name}", why=name, hint=name),),
        targets=(name,),
    )


# Alerts


def test_every_form_says_what_which_since_when_and_what_to_do():
    got = message(news(incident()))
    for form in (got.text, got.chat, Page(got.html).words):
        assert "alpha.snapshot.gz" in form
        assert "corrupt: SHA-256 differs" in form
        assert "since Mon 23 Nov 02:00:00" in form
        assert "snapward verify 20261123T010000Z" in form
    assert got.level is Level.CRITICAL
    assert "<code" in got.html
    assert "times here are CET" in got.text


def test_no_line_of_an_alert_is_longer_than_a_terminal():
    got = message(*(news(incident(f"primary:daily/{name}", why=name, hint=name)) for name in HOSTILE))
    assert max(map(len, got.text.splitlines())) <= 80


def test_a_chat_message_stays_short_and_says_how_much_it_leaves_out():
    got = message(*(news(incident(f"primary:daily/{number:03}.tar.gz")) for number in range(30)))
    assert len(got.chat) <= CHAT
    assert got.chat.count("CRITICAL") == 30 - int(re.findall(r"\+(\d+) more: snapward alert list", got.chat)[0])
    assert got.title == "[CRITICAL] db1: 30 problems"


def test_even_a_thousand_long_problems_fit_into_a_chat():
    got = message(*(news(incident(f"{number}" * 100, why="y" * 400)) for number in range(1000)))
    assert len(got.chat) <= CHAT
    assert "more: snapward alert list" in got.chat
    assert len(got.html) < 100_000


def test_a_test_message_is_friendly_and_needs_nothing():
    got = message(kind="test")
    assert got.title == "[TEST] db1: messages get through"
    assert got.level is Level.OK
    for form in (got.text, got.chat, got.html):
        assert "Nothing is wrong" in " ".join(form.split())


def test_a_message_that_took_another_way_says_so():
    for form in (message(news(incident()), fallback_of=7).text, message(news(incident()), fallback_of=7).html):
        assert "the target it was meant for could not be reached" in form


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_inert_in_every_form(name: str):
    got = message(news(incident(f"primary:daily/{name}", why=name, hint=name)))
    page = Page(got.html)
    assert not {tag for tag, _ in page.tags} & {"img", "script"}
    assert not [one for _, attrs in page.tags for one in attrs if one.startswith("on")]
    assert not set("<>@`") & set(got.chat + got.title)
    assert got.title.isprintable()
    assert "49" not in page.words.replace("{{ 7 * 7 }}", "")


# The operator's own templates


def test_an_own_template_replaces_the_shipped_one(tmp_path: Path):
    (tmp_path / "alert.chat.j2").write_text("{{ alert.title }} in our words, {{ items | length }}, {{ host }}")
    got = message(news(incident("<!channel>")), folder=tmp_path)
    assert got.chat == f"{inert('[CRITICAL] db1: archive damaged: <!channel>')} in our words, 1, db1"
    assert "could not be used" not in got.text + got.html


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ alert.nothing }}", "UndefinedError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% include 'alert.txt.j2' %}{{ x", "TemplateSyntaxError"),
        ("{% include self._TemplateReference__context.name %}", "RecursionError"),
    ],
)
def test_a_broken_template_loses_no_alert_and_is_named(tmp_path: Path, broken: str, why: str):
    (tmp_path / "alert.txt.j2").write_text(broken)
    got = message(news(incident()), folder=tmp_path)
    assert "alpha.snapshot.gz" in got.text
    for form in (got.text, got.chat, Page(got.html).words):
        words = " ".join(form.split())
        assert "alert.txt.j2" in words[-400:]
        assert why in words[-400:]
        assert "the shipped one was" in words[-400:]


def test_a_broken_template_in_a_chat_still_leaves_room_for_the_alert(tmp_path: Path):
    (tmp_path / "alert.chat.j2").write_text("{{ x }}" * 200)
    got = message(*(news(incident(f"{number}.gz", why="y" * 300)) for number in range(40)), folder=tmp_path)
    assert len(got.chat) <= CHAT
    assert "0.gz" in got.chat
    assert "alert.chat.j2" in got.chat


def test_a_template_that_is_no_text_and_a_folder_that_is_gone_lose_nothing(tmp_path: Path):
    (tmp_path / "alert.html.j2").write_bytes(b"\xff\xfe\x00")
    assert "UnicodeDecodeError" in message(news(incident()), folder=tmp_path).html
    gone = message(news(incident()), folder=tmp_path / "nowhere")
    assert gone == message(news(incident()))


def test_the_note_about_an_own_template_cannot_carry_html(tmp_path: Path):
    (tmp_path / "alert.html.j2").write_text("{{ alert['<b>bold</b>'] }}")
    html = message(news(incident()), folder=tmp_path).html
    assert "&lt;b&gt;" in html
    assert "b" not in {tag for tag, _ in Page(html).tags}


def test_a_broken_own_report_falls_back_too(tmp_path: Path):
    (tmp_path / "parts.html.j2").write_text("{% macro card() %}")
    html, text = report_pages(summarise(sample_week.fine()), BERLIN, str(tmp_path))
    assert "All 9 collections are proved faithful." in html
    assert "parts.html.j2" in html
    assert "parts.html.j2" in text


# The report


@pytest.mark.parametrize("week", ["fine", "critical", "empty"])
def test_the_report_is_safe_for_mail_programs(week: str):
    html, text = report_pages(summarise(getattr(sample_week, week)()), BERLIN)
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "img",
        "svg",
        "link",
        "iframe",
        "form",
        "a",
        "video",
        "object",
    }
    assert not {name for _, attrs in page.tags for name in attrs} & {"src", "href", "background", "onclick"}
    assert "url(" not in html
    assert len(html) < 100_000  # where Gmail cuts
    assert len([one for one in page.tags if one[0] == "h1"]) == 1
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("week", ["fine", "critical", "empty"])
def test_both_forms_have_the_sections_in_the_order_in_which_they_matter(week: str):
    html, text = report_pages(summarise(getattr(sample_week, week)()), BERLIN)
    order = [
        "What needs you",
        "Collections",
        "Came and went",
        "Evidence",
        "Storage",
        "Outlook",
        "Alerts",
        "Changes",
        "Not checked",
    ]
    if week != "critical":
        order.remove("Came and went")
    if week == "empty":
        order.remove("Outlook")
    heads = re.findall(r"<h2[^>]*>([^<]*)</h2>", html)
    assert [one.replace(" this week", "") for one in heads] == order
    places = [text.index(f"\n{one.upper()}") for one in order]
    assert places == sorted(places)


def test_every_number_on_the_page_is_in_the_json():
    for facts in (sample_week.fine(), sample_week.critical(), sample_week.empty()):
        report = summarise(facts)
        data = report_json(report)
        html, text = report_pages(report, BERLIN)
        known = numbers(" ".join(sayings(data, report.made)))
        assert numbers(Page(html).words) <= known
        # The first column of the text's rules and bars has no digits; the "x" before a number is a times sign.
        assert numbers(re.sub(r" x(?=\d)", " ", text)) <= known


def sayings(value: object, made: float) -> Iterator[str]:
    """Every way in which the values of a report may be written."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from sayings(one, made)
    elif isinstance(value, list):
        yield str(len(value))
        for one in value:
            yield from sayings(one, made)
    elif isinstance(value, str):
        yield value
        if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", value):
            at = sample_week.datetime.fromisoformat(value).timestamp()
            yield moment(at, BERLIN)
            yield f"{value[:10]} {value[11:16]} {moment(at, BERLIN).rpartition(':')[0]} {moment(at - 1, BERLIN)}"
            yield span(made - at)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield f"{value} {abs(value)} {abs(value):,} {value:.0f}"
        yield f"{size(abs(value))} {span(value)}"


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?!\w)", text))


def test_the_numbers_test_would_notice_a_number_that_is_not_there():
    data = report_json(summarise(sample_week.fine()))
    assert not numbers("4711 of 12,302 points") <= numbers(" ".join(sayings(data, NOW)))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_inert_in_the_report(name: str):
    report = summarise(hostile_facts(name))
    html, text = report_pages(report, BERLIN)
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"img", "script"}
    assert not [one for _, attrs in page.tags for one in attrs if one.startswith("on")]
    assert max(map(len, text.splitlines())) <= 80
    assert report.subject.isprintable()
    assert not set("<>@`") & set(report.subject)


def test_a_thousand_collections_and_problems_still_make_a_mail():
    names = tuple(f"collection-with-a-rather-long-name-{number:04}" for number in range(1000))
    folders, archives = sample_week.backup(NOW - DAY, "daily", names)
    found = tuple(incident(f"primary:daily/{name}.snapshot.gz", id=number) for number, name in enumerate(names))
    facts = sample_week.facts(folders=tuple(folders), archives=tuple(archives), incidents=found)
    html, text = report_pages(summarise(facts), BERLIN)
    assert len(html) < 100_000
    for form in (html, text):
        assert "more collections: all of them are in the JSON file" in form
        assert "more problems: all of them are in the JSON file" in form


def test_no_target_and_no_location_are_said_aloud():
    html, text = report_pages(summarise(sample_week.facts(targets=(), locations={})), BERLIN)
    for form in (html, text):
        assert "nobody is told when something happens" in form
        assert "No location is configured." in form


def test_shipped_templates_name_no_place_in_the_network():
    found = list(shipped("templates").iterdir())
    assert len(found) >= 8
    for template in found:
        source = template.read_text("utf-8").replace("http://127.0.0.1:6333", "")
        assert not re.search(r"https?:|//\w|src=|@import|url\(", source), template.name


# How to restore


def blocks(notes: str, until: str = "## 5.") -> str:
    """The shell commands of the notes, in one script."""
    return "\n".join(re.findall(r"```sh\n(.*?)```", notes.partition(until)[0], re.DOTALL))


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


class Server(ThreadingHTTPServer):
    """Takes snapshots as Qdrant does: a multipart upload whose SHA-256 must be the one asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[tuple[str, dict[str, list[str]], bytes, str | None]] = []
        self.counted: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        url = urlsplit(self.path)
        _, _, collection, *what = url.path.split("/")
        ok = True
        if what == ["points", "count"]:
            self.server.counted.append(unquote(collection))
            assert json.loads(body) == {"exact": True}
        else:
            assert what == ["snapshots", "upload"]
            boundary = self.headers["content-type"].partition("boundary=")[2].encode()
            head, _, rest = body.partition(b"\r\n\r\n")
            assert b'name="snapshot"' in head
            content = rest[: rest.rindex(b"\r\n--" + boundary)]
            query = parse_qs(url.query)
            ok = query.get("checksum", [hashlib.sha256(content).hexdigest()]) == [hashlib.sha256(content).hexdigest()]
            self.server.taken.append((unquote(collection), query, content, self.headers["api-key"]))
        self.send_response(200 if ok else 400)
        self.end_headers()
        self.wfile.write(b'{"result": true}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


def described(files: dict[str, tuple[str, bytes]], folder: Path, kind: str = "qdrant") -> Manifest:
    """A backup of collections, as name to (file, content), that lies in `folder`."""
    entries = []
    for name, (file, raw) in files.items():
        stored = gzip.compress(raw) if file.endswith(".gz") else raw
        (folder / file).write_bytes(stored)
        entries.append(
            CollectionEntry(
                name=name,
                file=file,
                size=len(stored),
                sha256=hashlib.sha256(stored).hexdigest(),
                raw_size=len(raw),
                raw_sha256=hashlib.sha256(raw).hexdigest(),
                points_before=100,
                points_after=103,
            )
        )
    subprocess.run("sha256sum -- * > SHA256SUMS", shell=True, cwd=folder, check=True)  # noqa: S602 - a fixed line
    return Manifest(
        id="20261123T010000Z",
        tier="daily",
        engine={"kind": kind, "version": "1.19.0"},
        collections=entries,
        failed=[Failure(name="telemetry", why="the server answered 500")],
        files=[FileEntry(file="server-config.tar.gz", size=1, sha256="f" * 64)],
    )


def test_the_commands_of_the_notes_restore_every_collection(tmp_path: Path, server: Server):
    names = {
        "alpha": ("alpha.snapshot.gz", b"first archive"),
        "städte & co/1?#%": ("st%C3%A4dte.snapshot.gz", b"second"),
        'it\'s; `id` $(id) "quoted"': ('it\'s; $(touch pwned) "a",b=c.snapshot.gz', b"third"),
        "plain": ("-plain; 'x\" y.snapshot", b"fourth"),
    }
    notes = restore_notes(described(names, tmp_path))
    script = blocks(notes).replace("http://127.0.0.1:6333", f"http://127.0.0.1:{server.server_port}")
    done = run(script.replace("API_KEY= ", "API_KEY=secret "), tmp_path)
    assert done.returncode == 0, done.stderr
    assert [(name, content, key) for name, _, content, key in server.taken] == [
        (name, raw, "secret") for name, (_, raw) in names.items()
    ]
    for _, query, content, _ in server.taken:
        assert query == {
            "wait": ["true"],
            "priority": ["snapshot"],
            "checksum": [hashlib.sha256(content).hexdigest()],
        }
    assert server.counted == list(names)
    assert not (tmp_path / "pwned").exists()
    assert not list(tmp_path.glob("restore-*"))


def test_the_notes_stop_at_an_archive_that_is_damaged(tmp_path: Path, server: Server):
    notes = restore_notes(described({"alpha": ("alpha.snapshot.gz", b"first archive")}, tmp_path))
    (tmp_path / "alpha.snapshot.gz").write_bytes(gzip.compress(b"other archive"))
    script = blocks(notes).replace("http://127.0.0.1:6333", f"http://127.0.0.1:{server.server_port}")
    assert run(script, tmp_path).returncode != 0
    assert run(script.partition("sha256sum -c SHA256SUMS")[2], tmp_path).returncode != 0
    assert server.taken == []


def test_the_notes_say_what_the_archives_do_not_hold(tmp_path: Path):
    notes = restore_notes(described({"alpha": ("alpha.snapshot.gz", b"x")}, tmp_path))
    assert "same minor version (1.19.0) or the next one" in notes
    assert "100 to 103 points" in notes
    assert "Aliases are in no archive" in notes
    assert "- telemetry: the server answered 500" in notes
    assert "tar -tzf server-config.tar.gz" in notes
    assert "embedded" not in notes


def test_names_cannot_forge_the_notes_headings():
    name = "alpha\n## 1. Forged\n```sh\nrm -rf /\n```"
    entry = CollectionEntry(name=name, file="a.snapshot.gz", size=1, sha256="0" * 64, raw_sha256="'; rm -rf /")
    notes = restore_notes(Manifest(id="x", tier="daily", engine={}, collections=[entry]))
    assert "\n## 1. Forged" not in notes
    assert "rm -rf" not in blocks(notes)
    assert "no checksum of the unpacked archive" in notes


def test_the_notes_bring_an_archive_back_into_the_embedded_engine(tmp_path: Path):
    engine = pytest.importorskip("qdrant_edge")
    edge.build_sample(str(tmp_path), "alpha", 200, 8)
    with edge.open_collection(str(tmp_path), "alpha", snapshot_tar.plan) as source:
        raw = b"".join(source.plan.chunks())
    backup = tmp_path / "backup"
    backup.mkdir()
    notes = restore_notes(described({"alpha": ("alpha.snapshot.gz", raw)}, backup, "edge"))
    assert "not older than the embedded engine" in notes
    done = run("WORK=.\n" + blocks(notes.partition("## 6.")[2], "\0"), backup)
    assert done.returncode == 0, done.stderr
    shard = engine.EdgeShard.load(str(backup / "restored-1" / "0"))
    assert shard.count(engine.CountRequest(exact=True)) == 200
    shard.close()


def test_times_and_sizes_in_a_report_are_those_of_its_json():
    report = summarise(sample_week.fine())
    html, _ = report_pages(report, BERLIN)
    assert rfc3339(report.made) in html
    assert report_json(report)["made"] == rfc3339(report.made)
    assert count(report.evidence.read_archives, "archive") in html
