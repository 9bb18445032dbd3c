"""Plan a restore: for each collection what is read, and what happens where it goes to."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from agent.rules.recovery import placement, risks
from agent.rules.recovery.placement import Key
from agent.rules.recovery.risks import Risk
from agent.rules.recovery.scene import Earlier, Options, Scene, There, Wanted
from agent.rules.words import count


class AliasChange(Struct, frozen=True):
    """What becomes of an alias: it is to lead to `collection`; `why` it is left where it is, if it is."""

    alias: str
    collection: str
    why: str = ""


class Step(Struct, frozen=True, kw_only=True):
    """What happens to one collection.

    Attributes:
        wanted: what was asked for.
        peers: by archive's file the peer that it goes to; empty where there is no cluster to spread it over.
        keys: shard keys, in the order in which they are made first.
        action: create, replace, resume (go on with what broke off) or compare (it was done already, and is looked at).
        drop: whether what is there is removed first, or else replaced by the server itself.
        save: whether what is there is backed up first.
        there: what is there now.
        earlier: what an attempt that broke off has noted.
        aliases: that lead to it afterwards.
        risks: what speaks against it.
    """

    wanted: Wanted
    peers: Mapping[str, int] = {}
    keys: tuple[Key, ...] = ()
    action: str = "create"
    drop: bool = False
    save: bool = False
    there: There = There()
    earlier: Earlier | None = None
    aliases: tuple[AliasChange, ...] = ()
    risks: tuple[Risk, ...] = ()

    @property
    def raw_bytes(self) -> int:
        """What is sent: its archives, unpacked."""
        return 0 if self.action == "compare" else self.wanted.subject.raw_size

    @property
    def target(self) -> str:
        """The collection's name on the server."""
        return self.wanted.target


class Plan(Struct, frozen=True, kw_only=True):
    """All of a restore. `risks` are those that are about no single collection."""

    steps: tuple[Step, ...]
    risks: tuple[Risk, ...] = ()

    @property
    def every_risk(self) -> tuple[Risk, ...]:
        """What speaks against it, all together."""
        return (*self.risks, *(risk for step in self.steps for risk in step.risks))

    @property
    def refusal(self) -> Risk | None:
        """Why it is not done; None if it can be."""
        return next((one for one in self.every_risk if one.stops), None)

    @property
    def replaces(self) -> list[str]:
        """The targets of which what is there now is given up."""
        return [one.target for one in self.steps if not one.there.empty and one.action in {"replace", "resume"}]

    @property
    def saves(self) -> list[str]:
        """The targets that are backed up first."""
        return [one.target for one in self.steps if one.save]

    @property
    def raw_bytes(self) -> int:
        """What is sent, unpacked."""
        return sum(one.raw_bytes for one in self.steps)


def plan(
    wanted: Sequence[Wanted],
    scene: Scene,
    options: Options,
    *,
    engine: Mapping[str, Any],
    aliases: Mapping[str, str],
    missing: Mapping[str, str],
) -> Plan:
    """Decide what happens to each collection.

    Args:
        wanted: the collections that are asked for.
        scene: the server.
        options: what is allowed.
        engine: of the manifest.
        aliases: of the manifest.
        missing: collections that the backup should have and has not, with the reason.
    """
    steps = [_step(one, scene, options) for one in wanted]
    steps = [structs.replace(one, aliases=_aliases(one, scene, options, aliases)) for one in steps]
    version = risks.gate(engine, scene.version, force=options.force)
    doubts = [*risks.twice(wanted), *risks.missing(missing, options), *([version] if version else [])]
    doubts += [*risks.silent(scene), *risks.known(scene)]
    room = risks.room(max((one.raw_bytes for one in steps), default=0), scene, options)
    return Plan(steps=tuple(steps), risks=(*doubts, *room))


def _step(wanted: Wanted, scene: Scene, options: Options) -> Step:
    there, earlier = scene.there.get(wanted.target, There()), scene.earlier.get(wanted.target)
    action = _action(there, earlier, wanted.high)
    saves = action == "replace" and not there.empty
    peers, doubts = _peers(wanted, scene)
    doubts += risks.proof(wanted, options, replaces=saves and options.replace)
    if action == "resume" and earlier is not None:
        doubts.append(risks.resumed(wanted, there, earlier))
    elif action != "compare":
        doubts += risks.taken(wanted, there, options)
    return Step(
        wanted=wanted,
        peers=peers,
        keys=placement.keys(wanted.entry) or () if peers and wanted.entry else (),
        action=action,
        drop=there.exists and action != "compare" and bool(scene.peers or there.changes),
        save=saves,
        there=there,
        earlier=earlier,
        risks=tuple(doubts),
    )


def _action(there: There, earlier: Earlier | None, high: int | None) -> str:
    if earlier is not None and there.exists:
        if earlier.state == "done":
            return "compare"
        # More points than the archive has are not ours, unless they are what was to be replaced.
        if earlier.replaced or there.points is None or high is None or there.points <= high:
            return "resume"
    return "replace" if there.exists else "create"


def _peers(wanted: Wanted, scene: Scene) -> tuple[dict[str, int], list[Risk]]:
    """In a cluster the peer that each archive goes to, by its file; and what speaks against the archives."""
    entry, name = wanted.entry, wanted.collection
    if not wanted.pieces:
        what = f"nothing of it can be restored: {wanted.bad or 'it has no archive'}"
        return {}, [Risk(what=what, collection=name, stops=2, hint="Take another backup: `snapward list`.")]
    if scene.peers and entry is not None and entry.peer is not None:
        return placement.assigned(wanted.pieces, wanted.entries, scene.peers), _strange(wanted, scene.peers)
    if len(wanted.pieces) > 1:
        what = f"its shards are in {count(len(wanted.pieces), 'archive')} of several peers; a single server takes none"
        hint = "Restore into a cluster: engine.url and engine.peers name its peers."
        return {}, [Risk(what=what, collection=name, stops=2, hint=hint)]
    if entry is not None and entry.sharding == "custom" and not scene.peers:
        what = "it has shard keys of the application's own; only a cluster makes those, and without them no point comes"
        hint = "Restore into a cluster, which may have one peer only (qdrant#10135)."
        return {}, [Risk(what=what, collection=name, stops=2, hint=hint)]
    if len(scene.peers) > 1:
        what = "it is from a single server: afterwards all of its shards are at one peer"
        return {}, [Risk(what=what, collection=name, hint="Move or replicate them afterwards.")]
    return {}, []


def _strange(wanted: Wanted, peers: Sequence[int]) -> list[Risk]:
    """What is other than it was in the cluster that the archives are from."""
    found, name = [], wanted.collection
    if wanted.entry and placement.keys(wanted.entry) is None:
        what = "the shards of its keys are numbered as no server numbers new ones: they would not find their places"
        hint = "Restore it by hand: docs/operations.md tells how."
        found.append(Risk(what=what, collection=name, stops=2, hint=hint))
    if placement.ordered(wanted.pieces, wanted.entries) is None:
        what = "its archives have shards of each other's that were not whole: whichever comes last would spoil some"
        hint = "Take another backup, made when all replicas were active."
        found.append(Risk(what=what, collection=name, stops=2, hint=hint))
    if gone := sorted({one.peer or 0 for one in wanted.entries} - set(peers)):
        what = f"made by peers that are not here, {', '.join(map(str, gone))}: others take their archives"
        found.append(Risk(what=what, collection=name, warns=False))
    return found


def _aliases(step: Step, scene: Scene, options: Options, recorded: Mapping[str, str]) -> tuple[AliasChange, ...]:
    """The aliases that lead to a restored collection afterwards, and those that could and are left."""
    name, target = step.wanted.collection, step.target
    ours = {alias for alias, to in scene.aliases.items() if to == name}  # they go with what is removed
    if target == name:
        ours |= {alias for alias, to in recorded.items() if to == name}
        leads = {alias: scene.aliases.get(alias, name) for alias in sorted(ours)}
        stays = {alias: "" if to == name else f"it leads to {to} now" for alias, to in leads.items()}
        return tuple(_alias(alias, target, scene, why) for alias, why in stays.items())
    ours |= {alias for alias, to in recorded.items() if to == name and alias not in scene.aliases}
    why = "" if options.switch_alias else f"it stays with {name}: --switch-alias takes it along"
    return tuple(_alias(alias, target, scene, why) for alias in sorted(ours))


def _alias(alias: str, target: str, scene: Scene, why: str) -> AliasChange:
    return AliasChange(alias, target, why or ("there is a collection of that name" if alias in scene.names else ""))
