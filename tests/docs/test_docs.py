"""The documents say what the program does. `PYTHONPATH=tests python tests/docs/test_docs.py` renews the help texts."""

import ast
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from program import Program

import agent
from agent import errors
from agent.adapters.ledger.schema import MIGRATIONS
from agent.cli import front
from agent.files import shipped
from agent.rules.advisories import NEWEST_READ
from agent.rules.archive import State
from agent.rules.cluster import Layout, Peer
from agent.rules.manifest import CollectionEntry, Manifest, Probe
from agent.rules.rehearsal import Baseline
from agent.rules.report import Report
from agent.settings import load

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {path: path.read_text(encoding="utf-8") for path in FILES}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CODE = Path(agent.__file__).parent
SHIPPED = ("templates", "config", "systemd")
WIDTH = 90
HELP = re.compile(r"^```text\n\$ (snapward[ a-z]*) --help\n.*?^```$", re.MULTILINE | re.DOTALL)
# Not the user of that name, as in `-u snapward`.
RUN = re.compile(r"(?<!-[a-z])(?:^|\s|bin/)(snapward -{0,2}[a-z].*)")
BASE = "engine: {kind: command, argv: [backup.sh]}\nlocations: {primary: {path: /srv/backups}}\n"


def page(name: str) -> str:
    return PAGES[ROOT / name]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of whatever depth."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {heading!r}"
    return found[1]


def named(text: str) -> list[str]:
    """The words, or the numbers, in the first column of the tables."""
    return [one.strip("`") for one in re.findall(r"^\| (`[^`]+`|\d+) \|", text, re.MULTILINE)]


def commands(
    group: click.Group = front, words: tuple[str, ...] = (), parent: click.Context | None = None
) -> Iterator[tuple[str, ...]]:
    """Every command that people see, groups included."""
    yield words
    context = click.Context(group, parent, **group.context_settings)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name), context)
        else:
            yield (*words, name)


def help_block(line: str) -> str:
    """A command's help as the documents show it."""
    words = [*line.split()[1:], "--help"]
    said = CliRunner().invoke(front, words, prog_name="snapward", terminal_width=WIDTH)
    return f"```text\n$ {line} --help\n{said.output.strip()}\n```"


def with_help(text: str) -> str:
    """A document with its help texts as they are now."""
    return HELP.sub(lambda found: help_block(found[1]), text)


def test_every_help_text_is_the_programs_own() -> None:
    for path, text in PAGES.items():
        assert with_help(text) == text, path.name


def test_every_command_is_documented() -> None:
    shown = [found[1] for found in HELP.finditer(page("docs/commands.md"))]
    every = [" ".join(("snapward", *words)) for words in commands()]
    assert sorted(shown) == sorted(every)


def parsed(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Go as far with a command line as it goes without running anything."""
    if not isinstance(command, click.Group):
        command.make_context(command.name, words, parent=parent)
        return
    context = click.Context(command, parent, **command.context_settings)
    _, rest, _ = command.make_parser(context).parse_args(list(words))
    if not rest:
        return
    found = command.get_command(context, rest[0])
    assert found is not None, f"there is no command {rest[0]!r}"
    parsed(found, rest[1:], context)


def command_lines(text: str) -> Iterator[str]:
    """Every line in which the program is run: in prose, in shell blocks, in lines of cron."""
    text = HELP.sub("", text)
    yield from re.findall(r"`(snapward [^`]*)`", " ".join(prose(text).split()))
    for line in "".join((*blocks(text, "sh"), *blocks(text, "text"))).splitlines():
        yield from RUN.findall(line)


def test_every_command_line_in_the_documents_is_one() -> None:
    lines = [(path.name, line) for path, text in PAGES.items() for line in command_lines(text)]
    assert len(lines) > 60
    for name, line in lines:
        words = list(shlex.shlex(line, posix=True, punctuation_chars=True))
        end = next((at for at, word in enumerate(words) if set(word) <= set("();<>|&")), len(words))
        try:
            parsed(front, shlex.split(line, comments=True)[1:end])
        except click.exceptions.Exit:
            continue  # --help, --version
        except (click.ClickException, AssertionError) as error:
            pytest.fail(f"{name}: {line}: {error}")


def test_every_link_leads_somewhere() -> None:
    for path, text in PAGES.items():
        for link in re.findall(r'(?:\]\(|src=")([^)"]+)', prose(text)):
            target, _, anchor = link.partition("#")
            if re.match(r"https?:", link):
                continue
            to = (path.parent / target).resolve() if target else path
            inside = to.relative_to(ROOT).parts
            if inside[0] in SHIPPED:
                to = Path(str(shipped(inside[0]).joinpath(*inside[1:])))
            assert to.exists(), f"{path.name}: {link}"
            if anchor:
                heads = re.findall(r"^#+ (.+)$", PAGES[to], re.MULTILINE)
                known = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
                assert anchor in known, f"{path.name}: {link}"


def test_every_file_of_ours_that_is_named_is_there() -> None:
    for path, text in PAGES.items():
        for name in re.findall(r"`(agent/[\w/.]+)`", text):
            assert (CODE.parent / name).exists(), f"{path.name}: {name}"


def test_every_configuration_shown_can_be_used(tmp_path: Path) -> None:
    shown = [(path.name, block) for path, text in PAGES.items() for block in blocks(text, "yaml")]
    assert {"README.md", "alerts.md", "operations.md"} <= {name for name, _ in shown}
    file = tmp_path / "config.yaml"
    for name, block in shown:
        given = yaml.safe_load(block)
        whole = {"engine", "locations"} <= set(given)
        assert whole or name != "README.md", "a newcomer begins with it"
        file.write_text(block if whole else yaml.safe_dump(yaml.safe_load(BASE) | given), encoding="utf-8")
        load(str(file))


def test_every_shell_block_is_a_shell_script() -> None:
    for path, text in PAGES.items():
        for block in blocks(text, "sh"):
            done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
            assert not done.returncode, f"{path.name}: {done.stderr}\n{block}"


def rules_in(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """("incident", rule) for what can become one, ("status", rule) for what only the status says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"Finding", "ok"}:
            if node.args and isinstance(node.args[0], ast.Constant):
                yield "incident", str(node.args[0].value)
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Tuple)
            and ast.unparse(node.targets[0]) == "RULES"
        ):
            yield from (("incident", str(one.value)) for one in node.value.elts if isinstance(one, ast.Constant))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "rule" and isinstance(value, ast.Constant):
                    yield "status", str(value.value)


def test_every_alert_is_documented_and_every_documented_alert_exists() -> None:
    found: dict[str, set[str]] = {"incident": set(), "status": set()}
    for path in CODE.rglob("*.py"):
        for kind, rule in rules_in(ast.parse(path.read_text(encoding="utf-8"))):
            found[kind].add(rule)
    told = page("docs/alerts.md")
    assert sorted(named(section(told, "Every alert"))) == sorted(found["incident"])
    assert sorted(named(section(told, "What only `status` says"))) == sorted(found["status"])


def test_the_exit_codes_are_those_of_the_errors() -> None:
    codes = {kind.exit_code for kind in errors.AgentError.__subclasses__()} | {errors.FAULT}
    shown = {int(one) for one in named(section(page("docs/commands.md"), "Exit codes"))}
    assert shown == codes | {0, 1, 2, 3, 130}
    advised = {int(one) for one in named(section(page("docs/operations.md"), "When a command fails"))}
    assert advised == codes - {2}


def test_the_formats_are_those_of_the_code() -> None:
    told = page("docs/formats.md")
    assert named(section(told, "manifest.json")) == list(Manifest.__struct_fields__)
    assert named(section(told, "Collections")) == list(CollectionEntry.__struct_fields__)
    assert named(section(told, "Probes")) == list(Probe.__struct_fields__)
    assert named(section(told, "Baselines")) == list(Baseline.__struct_fields__)
    assert named(section(told, "Cluster")) == list(Layout((Peer("http://localhost:6333", 1),)).told())
    assert named(section(told, "Reports")) == list(Report.__struct_fields__)
    assert named(section(told, "Verdicts")) == [str(state) for state in State]
    with closing(sqlite3.connect(":memory:")) as db:
        for migration in MIGRATIONS:
            db.executescript(migration)
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert sorted(named(section(told, "The ledger"))) == sorted(tables)


def test_the_layers_are_those_that_are_checked() -> None:
    layers = next(one["layers"] for one in PROJECT["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    assert " → ".join(layers) in page("docs/architecture.md")


def test_every_decision_is_listed() -> None:
    listed = re.findall(r"^\d+\. \[.+\]\(decisions/(.+)\)$", page("docs/architecture.md"), re.MULTILINE)
    assert listed == sorted(path.name for path in (ROOT / "docs" / "decisions").iterdir())


def test_every_extra_that_is_showncan_be_installed() -> None:
    shown = {one for text in PAGES.values() for one in re.findall(r"(?:snapward|`)\[([a-z]+)\][`']", text)}
    assert shown == PROJECT["project"]["optional-dependencies"].keys() - {"dev"}


def test_the_defaults_for_a_server_are_the_programs_own(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("engine: {kind: qdrant, url: http://localhost:6333}\nlocations: {one: {path: /srv/backups}}\n")
    said = CliRunner().invoke(front, ["--config", str(file), "config", "show", "--json"], standalone_mode=False)
    values = json.loads(said.output)["values"]
    told = re.findall(
        r"^\| `([\w.]+)` \| (\w+) \|", section(page("docs/operations.md"), "What is asked of it"), re.MULTILINE
    )
    assert {key for key, _ in told} == {"engine.patience", "engine.silence", "engine.deadline", "parallel"}
    assert [(key, str(values[key]["value"])) for key, _ in told] == told


def test_advisories_were_read_up_to_where_it_says() -> None:
    assert f"up to {NEWEST_READ};" in page("docs/alerts.md")


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", page("CHANGELOG.md"), re.MULTILINE)
    assert newest
    assert newest[1] == agent.__version__ == PROJECT["project"]["version"]


def paths_in(value: Any, where: str = "") -> Iterator[str]:
    """Where every value of an answer is: `a.b` in a mapping, `a[]` in a list; what is empty counts."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from paths_in(inner, f"{where}.{key}" if where else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from paths_in(inner, f"{where}[]")
    else:
        yield f"{where}[]" if value == [] else where


def same(answer: dict[str, Any], heading: str) -> None:
    """An answer has what its table says, and nothing beside it."""
    told = named(section(page("docs/commands.md"), heading))
    assert answer.pop("schema_version") == 1
    there = set(paths_in(answer))

    def means(one: str, path: str) -> bool:
        inside = re.escape(one).replace(r"\*", ".+") + r"([.\[].*)?"
        return bool(re.fullmatch(inside, path)) or one.startswith(path)  # what is empty shows nothing of its inside

    assert not [one for one in told if not any(means(one, path) for path in there)], f"{heading}: not in it"
    assert not [path for path in there if not any(means(one, path) for one in told)], f"{heading}: not documented"


def test_the_json_answers_have_the_documented_fields(program: Program) -> None:
    from agent.adapters import edge

    qdrant = str(program.home / "qdrant")
    edge.build_sample(qdrant, "articles", 20, 4)
    edge.build_sample(qdrant, "broken", 20, 4)
    next(Path(qdrant, "broken", "segments").glob("*/segment.json")).write_text("x")
    program.write(targets='{nobody: {url: "json://127.0.0.1:9", reports: true}}', more="catch_up: 1h\n")
    same(program.json("list", expect=75), "`snapward list --json` without a ledger")
    program.secondary.rmdir()
    same(program.json("backup", "daily", expect=2), "`snapward backup --json`")
    same(program.json("verify"), "`snapward verify --json`")
    same(program.json("drill"), "`snapward drill --json`")
    same(program.json("evidence"), "`snapward evidence --json`")
    program.json("report", "send")
    reading = ("check", "status", "list", "reconcile", "report render", "report send", "alert list", "alert test")
    keeping = ("expire", "expire --simulate 2mo", "keep latest", "release latest", "repair", "audit")
    for line in (*reading, *keeping, "config validate", "config show"):
        same(program.json(*line.split(), expect=None), f"`snapward {line} --json`")
    program.write(engine='{kind: command, argv: ["true"]}')
    same(program.json("backup", "daily", expect=2), "`snapward backup --json` with `engine.kind: command`")
    program.write(engine='{kind: qdrant, url: "http://127.0.0.1:9"}')
    same(program.json("health", expect=2), "`snapward health --json`")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as it is shipped, with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    text = shipped("systemd").joinpath("snapward.service").read_text(encoding="utf-8")
    path = tmp_path / "snapward.service"
    path.write_text(re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE), encoding="utf-8")
    return path


def test_systemd_accepts_the_unit(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


def test_systemd_finds_the_unit_well_locked_up(unit: Path) -> None:
    asked = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:]


if __name__ == "__main__":
    for path, text in PAGES.items():
        path.write_text(with_help(text), encoding="utf-8")
