"""`snapward check`: is everything there that the agent needs, now and before the first backup?"""

import importlib.util
import os
import shutil
from collections.abc import Iterator

import click
import msgspec
from msgspec import Struct

from agent.adapters import host, ledger, press
from agent.cli import parts, text
from agent.cli.config import check_targets
from agent.errors import AgentError
from agent.jobs import overview
from agent.jobs.backup.engine import Engine
from agent.rules import storage
from agent.rules.finding import Level
from agent.rules.names import chosen
from agent.rules.words import count
from agent.settings import Loaded, Settings, check_secrets, load
from agent.settings.parts import limits, permissions, squeeze


class Check(Struct, frozen=True):
    """One thing looked at; `state` is ok, warning, critical or unknown."""

    name: str
    state: str
    why: str
    hint: str = ""


@click.command("check")
@parts.JSON
@click.pass_context
def check_(ctx: click.Context, *, json_: bool) -> int:
    """Check the configuration, the engine, every location, the ledger and every target; nothing is sent."""
    loaded = load(ctx.obj["config"])
    found = list(_checks(loaded))
    worst = overview.state(one.state for one in found)
    if json_:
        text.as_json({"state": worst, "checks": [msgspec.to_builtins(one) for one in found]})
        return text.EXIT[worst]
    for one in found:
        text.say(f"{text.state(one.state, 8)}  {one.name}: {one.why}")
        if one.hint and one.state != "ok":
            text.say(f"          {text.dim(one.hint)}")
    return text.EXIT[worst]


def _checks(loaded: Loaded) -> Iterator[Check]:
    settings = loaded.settings
    yield Check("configuration", "ok", f"{loaded.path} is valid")
    for warning in loaded.warnings:
        yield Check("configuration", "warning", warning)
    yield _tried("secrets", "every secret can be read", lambda: check_secrets(loaded))
    yield _tried("permissions", "owner and group exist", lambda: permissions(settings))
    yield _compression(settings)
    yield from _server(settings) if settings.engine.kind == "qdrant" else (_engine(settings),)
    for name, one in settings.locations.items():
        yield from _location(settings, name, one.path, one.mount)
    yield _state_dir(settings)
    yield _agent(settings)
    if settings.notify.targets:
        number = count(len(settings.notify.targets), "target")
        yield _tried(
            "targets", f"{number} can be used; `snapward alert test` sends to each", lambda: check_targets(loaded)
        )
    else:
        yield Check("targets", "warning", "nobody is told of anything", "Add notify.targets to the configuration.")
    if not any(one.reports for one in settings.notify.targets.values()):
        yield Check("report", "warning", "nobody gets the weekly report", "Give a target `reports: true`.")
    yield Check("retention", "ok", "this version removes no backup: `keep` is not enforced yet")
    yield Check("drills", "ok", "this version rehearses no restore: proof ends at the level intact")


def _compression(settings: Settings) -> Check:
    chosen = settings.compression
    ways = [squeeze(chosen), *(squeeze(chosen, one) for one in chosen.collections.values())]
    try:
        return Check("compression", "ok", ", ".join(dict.fromkeys(map(press.library, ways))))
    except AgentError as error:
        return Check("compression", "critical", error.message, error.hint)


def _tried(name: str, fine: str, action: object) -> Check:
    assert callable(action)  # noqa: S101 - ours
    try:
        action()
    except AgentError as error:
        return Check(name, "critical", error.message, error.hint)
    return Check(name, "ok", fine)


def _server(settings: Settings) -> Iterator[Check]:
    from agent.cli.health import seen  # noqa: PLC0415 - HTTP is dear to load
    from agent.rules import server  # noqa: PLC0415

    try:
        view = seen(settings)
        for one in server.judge(view, parts.now()):
            if one.level:
                yield Check(f"engine, {one.rule}, {one.subject}", one.level.word, one.why, one.hint)
        if view.problem or view.denied:
            return
        engine = parts.engine(settings, settings.engine.collections.include)
        names = chosen(engine.collections(), settings.engine.collections.include, settings.engine.collections.exclude)
        _, failed = engine.pieces(names) if names else ([], [])
        engine.room(engine.sizes(names), settings.parallel)
    except AgentError as error:
        yield Check("engine", "critical", error.message, error.hint)
        return
    for failure in failed:
        yield Check(f"engine, {failure.name}", "critical", failure.why)
    if not names:
        yield Check("engine", "warning", f"{view.url} has no collection to back up", "Is it the right server?")
    else:
        called = f"Qdrant {view.version}, {count(len(names), 'collection')}: {', '.join(names[:8])}"
        yield Check("engine", "ok", f"{called}; the key may back them up")


def _engine(settings: Settings) -> Check:
    chosen = settings.engine
    if chosen.kind == "command":
        program = shutil.which(chosen.argv[0])
        if program is None:
            hint = "Mend engine.argv, or make it executable for the agent's user."
            return Check("engine", "critical", f"{chosen.argv[0]} is not there or cannot be run", hint)
        return Check("engine", "ok", f"{program} can be run")
    try:
        engine = parts.engine(settings)
        if chosen.kind == "edge" and importlib.util.find_spec("qdrant_edge") is None:
            return Check("engine", "critical", "the embedded engine is not installed", "pip install 'snapward[edge]'")
        names = engine.collections()
    except AgentError as error:
        return Check("engine", "critical", error.message, error.hint)
    if not names:
        return Check("engine", "warning", f"there is no collection in {chosen.path}", "Is it the right folder?")
    return Check("engine", "ok", f"{_called(engine)}, {count(len(names), 'collection')}: {', '.join(names[:8])}")


def _called(engine: Engine) -> str:
    told = engine.surroundings().engine
    return f"{told['kind']} {told['version']}"


def _location(settings: Settings, name: str, path: str, mount: str | None) -> Iterator[Check]:
    patrol = host.patrol(name, path, mount)
    for finding in storage.judge(patrol, limits(settings), {}):
        label = f"location {name}, {finding.rule.removeprefix('location_').removeprefix('storage_')}"
        yield Check(label, finding.level.word, finding.why, finding.hint if finding.level else "")
    if patrol.root.trouble:
        return
    if mount is None:
        hint = "Name its mount point as `mount:`, and an unmounted disk is noticed."
        yield Check(f"location {name}, mount", "ok", "no mount point is expected", hint)
    if not host.has_inotify(path):
        why = f"its file system reports no changes; it is scanned every {settings.watch.scan_every:g} s"
        yield Check(f"location {name}, events", "ok", why)


def _state_dir(settings: Settings) -> Check:
    path = settings.state_dir
    if not os.path.isdir(path):
        above = os.path.dirname(path)
        if os.access(above, os.W_OK):
            return Check("state_dir", "ok", f"{path} is made at the first start")
        return Check("state_dir", "critical", f"{path} is not there", "Make it, owned by the agent's user.")
    why = host.probe(path)
    if why:
        return Check("state_dir", "critical", f"{path} takes no file: {why}", "Verdicts and alerts are kept there.")
    return Check("state_dir", "ok", f"{path} can be written")


def _agent(settings: Settings) -> Check:
    try:
        with parts.reader(settings) as db:
            known = overview.backups(db, settings.locations)
            silent = [one for one in overview.findings(db, known, parts.now()) if one["rule"] == "agent_silent"]
    except AgentError as error:
        return Check("agent", "warning", error.message, error.hint)
    except ledger.DatabaseError as error:
        return Check("agent", "critical", f"the ledger cannot be read: {error}", "`snapward reconcile` rebuilds it.")
    if silent:
        return Check("agent", Level.WARNING.word, str(silent[0]["why"]), str(silent[0]["hint"]))
    return Check("agent", "ok", f"runs, and knows {count(len(known), 'backup')}")
