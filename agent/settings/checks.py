"""What must hold between values: each yields a dotted key and what is wrong with it."""

import os
from collections.abc import Callable, Iterator
from itertools import combinations

from agent.settings.shape import ENGINE_NEEDS, ENGINE_TAKES, OWN_TIERS, Settings

Found = Iterator[tuple[str, str]]
Sound = Callable[[str], bool]


def engine(settings: Settings, given: set[str], sound: Sound) -> Found:
    """The kind of engine has the keys it needs, and none of another kind.

    Args:
        settings: to be checked.
        given: the dotted keys written in the file.
        sound: tells whether a key's value could be read.
    """
    if not sound("engine") or not sound("engine.kind"):
        return
    kind = settings.engine.kind
    needs, takes = ENGINE_NEEDS[kind], ENGINE_TAKES[kind]
    for name in needs:
        if sound(f"engine.{name}") and not getattr(settings.engine, name):
            yield "engine", f"kind {kind} needs {name}"
    written = [key for key in given if key.startswith("engine.") and key.count(".") == 1]
    for key in written:
        name = key.removeprefix("engine.")
        if name not in ("kind", *needs, *takes):
            yield key, f"does not belong to kind {kind}, which takes {', '.join(needs + takes)}"


def compression(settings: Settings, sound: Sound) -> Found:
    """Levels that the format has."""
    if not sound("compression"):
        return
    chosen = settings.compression
    spots = [("compression", chosen.format, chosen.level)]
    spots += [
        (f"compression.collections.{name}", one.format or chosen.format, one.level or chosen.level)
        for name, one in chosen.collections.items()
    ]
    for key, form, level in spots:
        if sound(key) and sound(f"{key}.level") and form == "gzip" and level > 9:
            yield f"{key}.level", f"{level} is no level of gzip, which has 1 to 9"


def storage(settings: Settings, sound: Sound) -> Found:
    """The marks of a filling disk are in order."""
    marks = settings.storage
    if not sound("storage.warn"):
        return
    if sound("storage.critical") and marks.warn >= marks.critical:
        yield "storage.warn", f"{marks.warn:g}% is not below storage.critical, {marks.critical:g}%"
    if sound("storage.clear") and marks.clear >= marks.warn:
        yield "storage.clear", f"{marks.clear:g}% is not below storage.warn, {marks.warn:g}%"


def tiers(settings: Settings, sound: Sound) -> Found:
    """No tier has a name that the agent uses itself, and what names a tier names one that there is."""
    if not sound("tiers"):
        return
    for name in settings.tiers.keys() & set(OWN_TIERS):
        yield f"tiers.{name}", "is what snapward calls backups outside the schedule; choose another name"
    for place, location in settings.locations.items() if sound("locations") else ():
        for name in location.keep.keys() - settings.tiers.keys() - set(OWN_TIERS):
            if sound(f"locations.{place}.keep.{name}"):
                yield (
                    f"locations.{place}.keep.{name}",
                    f"there is no tier of that name; there are {', '.join(settings.tiers)}",
                )
    for job in settings.pings.jobs if sound("pings") and sound("pings.jobs") else ():
        kind, _, tier = job.partition(":")
        if kind == "backup" and tier not in settings.tiers:
            yield f"pings.jobs.{job}", f"there is no tier of that name; there are {', '.join(settings.tiers)}"


def pings(settings: Settings, sound: Sound) -> Found:
    """A watcher is asked over HTTP; where its whole URL is kept elsewhere, that shows when it is used."""
    if not sound("pings"):
        return
    named = {"pings.agent": settings.pings.agent}
    named |= {f"pings.jobs.{job}": url for job, url in settings.pings.jobs.items()} if sound("pings.jobs") else {}
    for key, url in named.items():
        if url is not None and sound(key) and url.scheme and url.scheme not in {"http://", "https://"}:
            yield key, f"begins with {url.scheme}; a watcher's check has an http:// or https:// URL"


def fallbacks(settings: Settings, given: set[str], sound: Sound) -> Found:
    """Every fallback is another target, and none leads back to where it began."""
    if not sound("notify") or not sound("notify.targets"):
        return
    targets = settings.notify.targets
    after = {name: target.fallback for name, target in targets.items() if sound(f"notify.targets.{name}.fallback")}
    for name, fallback in after.items():
        key = f"notify.targets.{name}.fallback"
        if fallback is None:
            continue
        if fallback == name:
            yield key, "names the target itself; name another one"
        elif f"notify.targets.{fallback}" not in given:
            yield key, f"{fallback!r} is no target; there are {', '.join(targets)}"
        else:
            way = [name]
            while (step := after.get(way[-1])) and step not in way:
                way.append(step)
            if step == name and name == min(way):
                yield key, f"leads in a circle: {' -> '.join([*way, name])}"


def places(settings: Settings, sound: Sound) -> Found:
    """No folder lies where its content would be taken for another's, or would vanish with it."""
    named = settings.locations if sound("locations") else {}
    whole = {name: one for name, one in named.items() if sound(f"locations.{name}.path")}
    real = {f"locations.{name}.path": os.path.realpath(one.path) for name, one in whole.items()}
    for (earlier, theirs), (key, ours) in combinations(real.items(), 2):
        if ours == theirs:
            yield key, f"is the same folder as {earlier}; two copies in one place are one copy"
        elif _overlap(ours, theirs):
            yield key, f"overlaps {earlier}, {_relation(ours, theirs)}; keep them apart"
    for name, one in whole.items():
        if one.mount and not _inside(real[f"locations.{name}.path"], os.path.realpath(one.mount)):
            yield f"locations.{name}.mount", f"{one.path} does not lie in {one.mount}"
    for key, path in _others(settings, sound):
        ours = os.path.realpath(path)
        for location, theirs in real.items():
            if _inside(ours, theirs) or (key != "state_dir" and _inside(theirs, ours)):
                yield key, f"overlaps {location}, {_relation(ours, theirs)}; keep them apart"


def _others(settings: Settings, sound: Sound) -> Iterator[tuple[str, str]]:
    if sound("state_dir"):
        yield "state_dir", settings.state_dir
    if sound("engine") and sound("engine.path") and settings.engine.path:
        yield "engine.path", settings.engine.path
    if sound("drills") and sound("drills.scratch") and settings.drills.scratch:
        yield "drills.scratch", settings.drills.scratch
    if sound("engine") and sound("engine.config_files"):
        for path in settings.engine.config_files:
            yield "engine.config_files", path


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _overlap(one: str, other: str) -> bool:
    return _inside(one, other) or _inside(other, one)


def _relation(path: str, other: str) -> str:
    if path == other:
        return f"both are {path}"
    return f"{path} lies in {other}" if _inside(path, other) else f"{other} lies in {path}"
