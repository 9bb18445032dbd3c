"""`snapward check`: is everything there that the agent needs, now and before the first backup?"""

import importlib.util
import os
import shutil
from collections.abc import Iterator

import click
import msgspec
from msgspec import Struct

from agent.adapters import edge, host, ledger, press
from agent.cli import parts, text
from agent.cli.config import check_targets
from agent.errors import AgentError
from agent.jobs import overview
from agent.jobs.backup.engine import Engine
from agent.jobs.drill import scratch, standing
from agent.rules import storage, timetable
from agent.rules.finding import Level
from agent.rules.names import chosen
from agent.rules.seal import LEAST_KEY
from agent.rules.words import count, moment, size
from agent.settings import Loaded, Settings, check_secrets, load, zone
from agent.settings.parts import drill_server, limits, permissions, scratch_folder, squeeze
from agent.settings.units import Span


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
    yield _retention(settings)
    yield _sealing(settings)
    yield from _drills(settings)


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
        names, called = engine.collections(), _called(engine)
    except AgentError as error:
        return Check("engine", "critical", error.message, error.hint)
    if not names:
        return Check("engine", "warning", f"there is no collection in {chosen.path}", "Is it the right folder?")
    return Check("engine", "ok", f"{called}, {count(len(names), 'collection')}: {', '.join(names[:8])}")


def _called(engine: Engine) -> str:
    told = engine.surroundings().engine
    return f"{told['kind']} {told['version']}"


def _retention(settings: Settings) -> Check:
    """What old backups have to expect; a cleanup of our own beside another one's would be no surprise then."""
    local = zone(settings.timezone)
    told = ", ".join(
        f"{name} {one.keep}" if isinstance(one.keep, Span) else f"the last {one.keep} {name}"
        for name, one in settings.tiers.items()
    )
    others = [name for name, one in settings.locations.items() if one.keep]
    besides = f"; otherwise in {', '.join(others)}" if others else ""
    when = moment(timetable.next_slot(settings.cleanup.cron, parts.now(), local), local)
    return Check("retention", "ok", f"kept: {told}{besides}; `snapward expire` shows what will go, next {when}")


def _sealing(settings: Settings) -> Check:
    sealing = settings.sealing
    if sealing.key is None:
        return Check("sealing", "ok", "manifests are chained, and not signed: sealing.key is not set")
    try:
        keys = [one.reveal().encode() for one in (sealing.key, *sealing.old_keys)]
    except AgentError as error:
        return Check("sealing", "critical", error.message, error.hint)
    if short := [len(one) for one in keys if len(one) < LEAST_KEY]:
        why = f"a key has {short[0]} bytes, and {LEAST_KEY} are the least"
        return Check("sealing", "critical", why, "`openssl rand -hex 32` makes one.")
    return Check("sealing", "ok", f"manifests are chained and signed; {count(len(keys), 'key')} known")


def _drills(settings: Settings) -> Iterator[Check]:
    at = timetable.next_slot(settings.drills.cron, parts.now(), zone(settings.timezone))
    when = f"the next in full {moment(at, zone(settings.timezone))}"
    try:
        if settings.drills.url is not None:
            yield Check("drills", "ok", f"{_scratch_server(settings)}; {when}")
            return
        engine = edge.version()
    except AgentError as error:
        hint = f"{error.hint}; or name a scratch server: drills.url" if settings.drills.url is None else error.hint
        yield Check("drills", "warning", f"no restore can be rehearsed: {error.message}", hint)
        return
    try:
        room, largest = scratch.left(scratch_folder(settings)), _largest(settings)
        scratch.need(scratch_folder(settings), largest)
    except AgentError as error:
        yield Check("drills, scratch", "warning", error.message, error.hint)
        return
    what = f"the largest collection takes {size(largest)}" if largest else "no collection is known yet"
    yield Check("drills", "ok", f"{engine}, {size(room)} free for scratch, {what}; {when}")


def _scratch_server(settings: Settings) -> str:
    from agent.adapters.qdrant.server import Server  # noqa: PLC0415 - HTTP is dear to load
    from agent.adapters.qdrant.wire import Wire  # noqa: PLC0415

    server = Server(Wire(drill_server(settings)))
    return f"the scratch server {server.url} is Qdrant {server.identity().version}"


def _largest(settings: Settings) -> int:
    """Bytes of the largest archive of today, unpacked; 0 where none is known."""
    try:
        with parts.reader(settings) as db:
            today = standing.view(db, list(settings.locations)).current.values()
    except AgentError:
        return 0
    return max((piece.raw_size or piece.size for one in today if one for piece in one.pieces), default=0)


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
