"""Restores: which backup, what happens where it goes to, and what speaks against it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from agent.rules.manifest import CollectionEntry
from agent.rules.recovery import choice, placement, risks
from agent.rules.recovery.choice import Candidate
from agent.rules.recovery.estimate import estimate
from agent.rules.recovery.files import Member, sort
from agent.rules.recovery.placement import Key, Move
from agent.rules.recovery.plan import AliasChange, Plan, Step, plan
from agent.rules.recovery.scene import Earlier, Options, Scene, There, Wanted
from agent.rules.recovery.verdict import verdict
from agent.rules.rehearsal import Judgement
from agent.rules.subjects import Piece, Subject

HOUR = 3600.0
NOW = 1_790_000_000.0
BERLIN = ZoneInfo("Europe/Berlin")
MADE = {"kind": "qdrant", "version": "1.18.3"}


# Which backup.


def candidate(
    name: str, ended: float | None, state: str = "good", tier: str = "daily", names: str = "ab", took: float = 60.0
) -> Candidate:
    started = None if ended is None else ended - took
    return Candidate(name, tier, state, started, ended, frozenset(names))


HISTORY = [
    candidate("old", 100.0),
    candidate("bad", 200.0, "bad"),
    candidate("some", 300.0, names="a"),
    candidate("aside", 400.0, tier="pre-restore"),
    candidate("undated", None),
]


@pytest.mark.parametrize(
    ("at", "names", "found"),
    [
        (None, "", "some"),
        (None, "b", "old"),
        (300.0, "", "some"),
        (299.9, "", "old"),
        (100.0, "ab", "old"),
        (99.9, "", None),
        (None, "c", None),
    ],
)
def test_the_newest_good_backup_that_was_over_by_then_is_taken(at: float | None, names: str, found: str | None) -> None:
    best = choice.newest(HISTORY, at, names)
    assert (best.id if best else None) == found


@given(st.floats(0, 1000), st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 100)), max_size=8))
def test_what_is_taken_holds_nothing_that_came_later(at: float, times: list[tuple[float, float]]) -> None:
    known = [candidate(str(number), ended, took=took) for number, (ended, took) in enumerate(times)]
    best = choice.newest(known, at)
    if best is None:
        assert all(ended > at for ended, _ in times)
    else:
        assert best.ended is not None
        assert best.ended <= at
        assert not any(best.ended < ended <= at for ended, _ in times)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-22 18:00", datetime(2026, 11, 22, 17, 0, tzinfo=UTC)),
        ("2026-07-01T18:00:30", datetime(2026, 7, 1, 16, 0, 30, tzinfo=UTC)),
        ("2026-11-22T18:00:00Z", datetime(2026, 11, 22, 18, 0, tzinfo=UTC)),
        ("2026-11-22T18:00:00-05:00", datetime(2026, 11, 22, 23, 0, tzinfo=UTC)),
        ("2026-11-22", None),
        ("yesterday", None),
        ("18:00", None),
        ("", None),
    ],
)
def test_a_time_is_of_the_configured_zone_unless_it_says_another(text: str, found: datetime | None) -> None:
    assert choice.moment(text, BERLIN) == (found.timestamp() if found else None)


@pytest.mark.parametrize(
    ("runs", "since"),
    [
        ([], None),
        ([(NOW - 60, "running")], NOW - 60),
        ([(NOW - 90, "interrupted"), (NOW - 60, "failed")], NOW - 90),
        ([(NOW - 90, "interrupted"), (NOW - 60, "ok")], None),
        ([(NOW - 90, "ok"), (NOW - 60, "failed")], NOW - 60),
        ([(NOW - 48 * HOUR, "interrupted")], None),
        ([(NOW - 48 * HOUR, "interrupted"), (NOW - 60, "failed")], NOW - 60),
    ],
)
def test_attempts_are_one_restore_until_one_of_them_succeeds_or_a_day_has_passed(
    runs: list[tuple[float, str]], since: float | None
) -> None:
    assert choice.broken_since(runs, NOW) == since


# Whether the server takes it.


@pytest.mark.parametrize(
    ("made", "target", "stops", "says"),
    [
        ("1.18.3", "1.18.3", None, ""),
        ("1.18.3", "1.18.9", None, ""),
        ("1.18.3", "1.19.0", None, ""),
        ("1.18.3", "1.18.1", 0, "the server is older"),
        ("1.18.3", "1.20.0", 2, "only the same minor version"),
        ("1.18.3", "1.17.1", 2, "only the same minor version"),
        ("1.18.3", "2.0.0", 2, "only the same minor version"),
        ("1.18.3", "nightly", 0, "'nightly'"),
        ("", "1.18.3", 0, "not known before it is tried"),
        ("1.19.1-dev", "1.19.0", 0, "the server is older"),
    ],
)
def test_the_same_minor_version_and_the_next_one_are_taken(
    made: str, target: str, stops: int | None, says: str
) -> None:
    found = risks.gate({"kind": "qdrant", "version": made}, target, force=False)
    assert (found.stops if found else None) == stops
    assert found is None or says in found.what
    forced = risks.gate({"kind": "qdrant", "version": made}, target, force=True)
    assert forced is None or not forced.stops


def test_what_an_embedded_engine_made_is_a_risk_and_no_refusal() -> None:
    found = risks.gate({"kind": "edge", "version": "0.9.0"}, "1.18.3", force=False)
    assert found
    assert (found.stops, found.warns) == (0, True)
    assert "made by edge 0.9.0" in found.what


# How long it may take.


def test_an_estimate_is_drawn_from_restores_then_from_drills_and_else_not_at_all() -> None:
    gib = 1 << 30
    assert estimate(gib, [(gib, 4.0), (gib, 6.0)], [(gib, 1.0)]).seconds == 5.0
    assert estimate(gib, [], [(gib, 2.0)]) == estimate(gib, [(1000, 9.0)], [(gib, 2.0)])
    assert "1 earlier drill at" in estimate(gib, [], [(gib, 2.0)]).why
    assert estimate(gib, [], [(1000, 1.0)]).seconds is None
    assert "unknown" in estimate(gib, [], []).why


# What happens to a collection.


def entry(
    name: str = "articles", peer: int | None = None, shards: tuple[int, ...] = (0,), **other: Any
) -> CollectionEntry:
    file = f"{name}.snapshot.gz" if peer is None else f"{name}.peer-{peer}.snapshot.gz"
    given = {"points_before": 100, "points_after": 100, "raw_size": 1000, "raw_sha256": "0" * 64} | other
    return CollectionEntry(name=name, file=file, size=10, sha256="0" * 64, peer=peer, shards=list(shards), **given)


def wanted(*entries: CollectionEntry, target: str | None = None, described: bool = True, **other: Any) -> Wanted:
    entries = entries or (entry(),)
    pieces = tuple(
        Piece(file=one.file, spots=(("primary", "daily/x"),), raw_size=one.raw_size, shards=tuple(one.shards))
        for one in entries
    )
    name = entries[0].name
    subject = Subject(
        collection=name, backup="x", tier="daily", taken=NOW, spots=frozenset(), pieces=pieces, described=described
    )
    counts = {"low": 100, "high": 100, "level": "faithful", "rehearsed": True}
    return Wanted(subject=subject, target=target or name, entries=entries, **(counts | other))


def scene(there: There | None = None, **other: Any) -> Scene:
    found = {"articles": there, "new": there} if there else {}
    return Scene(**({"url": "http://q", "version": "1.18.3", "there": found, "rooms": {"/srv": 1 << 40}} | other))


def planned(
    *wants: Wanted,
    at: Scene | None = None,
    aliases: Mapping[str, str] | None = None,
    engine: Mapping[str, Any] = MADE,
    missing: Mapping[str, str] | None = None,
    **allowed: bool,
) -> Plan:
    return plan(
        wants or (wanted(),),
        at or scene(),
        Options(**allowed),
        engine=engine,
        aliases=aliases or {},
        missing=missing or {},
    )


def step(*args: Any, **how: Any) -> Step:
    (found,) = planned(*args, **how).steps
    return found


FULL, EMPTY = There(exists=True, points=120), There(exists=True, points=0)


def test_what_is_not_there_is_made() -> None:
    found = step()
    assert (found.action, found.drop, found.save) == ("create", False, False)
    assert planned().refusal is None


def test_what_is_there_is_refused_with_its_points_and_the_two_ways() -> None:
    refusal = planned(at=scene(FULL)).refusal
    assert refusal
    assert (refusal.stops, refusal.unless) == (64, "--replace")
    assert refusal.what == "articles is there and has 120 points"
    assert "--as NEW" in refusal.hint
    assert "--replace" in refusal.hint


def test_what_is_replaced_is_backed_up_first_and_what_is_given_up_is_said() -> None:
    found = planned(at=scene(FULL), replace=True)
    assert found.refusal is None
    assert (found.saves, found.replaces) == (["articles"], ["articles"])
    assert any("20 points more than the backup" in one.what for one in found.every_risk)


def test_a_collection_that_does_not_tell_its_points_counts_as_one_that_has_some() -> None:
    dead = There(exists=True, points=None, why="the shard is dead")
    refusal = planned(at=scene(dead)).refusal
    assert refusal
    assert "the shard is dead" in refusal.what
    assert planned(at=scene(dead), replace=True).saves == ["articles"]


def test_an_empty_one_is_replaced_without_asking_and_without_a_backup() -> None:
    found = planned(at=scene(EMPTY))
    assert found.refusal is None
    assert (found.steps[0].action, found.saves, found.replaces) == ("replace", [], [])


@pytest.mark.parametrize(("changes", "drop"), [((), False), (("hnsw_config.m was 32 and is 16",), True)])
def test_settings_that_are_others_are_made_anew(changes: tuple[str, ...], *, drop: bool) -> None:
    found = step(at=scene(There(exists=True, points=5, changes=changes)), replace=True)
    assert found.drop is drop
    assert any("hnsw_config.m" in one.what for one in found.risks) is drop


def test_a_name_that_is_an_alias_is_refused() -> None:
    refusal = planned(at=scene(There(alias_of="articles-2"))).refusal
    assert refusal
    assert (refusal.stops, refusal.unless) == (64, "")


def test_in_place_only_what_was_rehearsed_is_put() -> None:
    never = wanted(level="well-formed", rehearsed=False)
    refusal = planned(never, at=scene(FULL), replace=True).refusal
    assert refusal
    assert (refusal.stops, refusal.unless) == (2, "--skip-proof")
    assert planned(never, at=scene(FULL), replace=True, skip_proof=True).refusal is None
    assert planned(never).refusal is None, "beside, nothing is lost"
    taken = planned(never, at=scene(FULL)).refusal
    assert taken
    assert taken.stops == 64, "what is there comes first"
    assert planned(never, at=scene(EMPTY)).refusal is None


@pytest.mark.parametrize(("level", "warns"), [("arrived", True), ("intact", False), ("well-formed", False)])
def test_how_little_is_proved_is_said(level: str, *, warns: bool) -> None:
    (found,) = step(wanted(level=level, rehearsed=False)).risks
    assert found.what == f"its archive is proved {level}; no engine has opened it yet"
    assert (found.stops, found.warns) == (0, warns)


def test_an_archive_that_is_bad_and_a_backup_that_lacks_something_are_refused_unless_nothing_is_to_be_proved() -> None:
    bad = wanted(bad="its newest rehearsal failed: 0 points of 100")
    assert planned(bad).refusal == next(one for one in planned(bad).every_risk if "rehearsal failed" in one.what)
    assert planned(bad, skip_proof=True).refusal is None
    lacking = planned(missing={"b": "the server died"})
    assert lacking.refusal
    assert "b is not in it: the server died" in lacking.refusal.what
    assert planned(missing={"b": "the server died"}, skip_proof=True).refusal is None


def test_an_archive_that_no_manifest_describes_is_only_a_risk() -> None:
    found = planned(wanted(described=False))
    assert found.refusal is None
    assert any("drawn from the file's" in one.what for one in found.every_risk)


def test_two_collections_do_not_become_one() -> None:
    refusal = planned(wanted(target="new"), wanted(entry("b"), target="new")).refusal
    assert refusal
    assert (refusal.stops, refusal.what) == (64, "two collections would become new")


@pytest.mark.parametrize(
    ("free", "force", "stops"), [(10_000, False, None), (999, False, 2), (999, True, None), (1000, False, None)]
)
def test_a_disk_that_has_no_room_for_the_largest_is_refused(free: int, stops: int | None, *, force: bool) -> None:
    refusal = planned(at=scene(rooms={"/srv": free}), force=force).refusal
    assert (refusal.stops if refusal else None) == stops


def test_what_is_known_of_the_server_is_only_good_to_know() -> None:
    found = planned(at=scene(version="1.18.3"))
    told = [one.what for one in found.risks]
    assert any("qdrant#9930" in one for one in told)
    assert not any(one.warns for one in found.risks)


# What broke off.


def note(state: str, *, replaced: bool = False, pre_restore: str | None = None) -> Earlier:
    return Earlier(state=state, began=NOW - 60, replaced=replaced, pre_restore=pre_restore)


@pytest.mark.parametrize(
    ("there", "earlier", "action"),
    [
        (There(), note("begun"), "create"),
        (EMPTY, note("begun"), "resume"),
        (There(exists=True, points=100), note("failed"), "resume"),
        (There(exists=True, points=None, why="it is dead"), note("begun"), "resume"),
        (There(exists=True, points=101), note("begun"), "replace"),
        (There(exists=True, points=101), note("begun", replaced=True), "resume"),
        (There(exists=True, points=100), note("done"), "compare"),
        (There(), note("done"), "create"),
        (FULL, None, "replace"),
    ],
)
def test_what_an_attempt_has_left_is_gone_on_with_and_what_anybody_may_have_written_is_not(
    there: There, earlier: Earlier | None, action: str
) -> None:
    at = scene(there, earlier={"articles": earlier} if earlier else {})
    found = planned(at=at)
    assert found.steps[0].action == action
    assert (found.refusal is not None) == (action == "replace")


def test_where_the_backup_of_what_was_there_is_stays_known() -> None:
    at = scene(There(exists=True, points=3), earlier={"articles": note("failed", replaced=True, pre_restore="p1")})
    found = planned(at=at)
    assert found.saves == []
    assert found.replaces == ["articles"], "it has to be agreed to"
    assert any("what was there before is in backup p1" in one.what for one in found.every_risk)


# Aliases.


RECORDED = {"current": "articles", "other": "b"}


def change(alias: str, to: str = "articles", why: str = "") -> AliasChange:
    return AliasChange(alias, to, why)


@pytest.mark.parametrize(
    ("now", "names", "found"),
    [
        ({}, (), (change("current"),)),
        ({"current": "articles"}, ("articles",), (change("current"),)),
        ({"current": "b"}, ("b",), (change("current", why="it leads to b now"),)),
        ({}, ("current",), (change("current", why="there is a collection of that name"),)),
        ({"fresh": "articles"}, ("articles",), (change("current"), change("fresh"))),
    ],
)
def test_in_place_aliases_come_back_where_they_are_free(
    now: dict[str, str], names: tuple[str, ...], found: tuple[AliasChange, ...]
) -> None:
    at = scene(aliases=now, names=frozenset(names))
    assert step(at=at, aliases=RECORDED).aliases == found


@pytest.mark.parametrize("switch", [False, True])
def test_beside_aliases_stay_unless_they_are_to_be_switched(*, switch: bool) -> None:
    at = scene(aliases={"live": "articles", "elsewhere": "b"}, names=frozenset({"articles", "b"}))
    found = step(wanted(target="new"), at=at, aliases=RECORDED, switch_alias=switch).aliases
    why = "" if switch else "it stays with articles: --switch-alias takes it along"
    assert found == (change("current", "new", why), change("live", "new", why))


# Clusters.


PEERS = (11, 12, 13)


def spread(**other: Any) -> Wanted:
    return wanted(entry(peer=11, shards=(0, 1), **other), entry(peer=12, shards=(2,), **other))


def test_each_archive_goes_to_the_peer_that_made_it() -> None:
    found = step(spread(), at=scene(peers=PEERS))
    assert found.peers == {"articles.peer-11.snapshot.gz": 11, "articles.peer-12.snapshot.gz": 12}
    assert not found.risks


def test_where_peers_are_new_ones_each_takes_the_place_of_one() -> None:
    found = step(spread(), at=scene(peers=(21, 12, 22)))
    assert found.peers == {"articles.peer-11.snapshot.gz": 21, "articles.peer-12.snapshot.gz": 12}
    assert "made by peers that are not here, 11" in found.risks[0].what
    fewer = step(spread(), at=scene(peers=(21,)))
    assert set(fewer.peers.values()) == {21}


def test_a_single_server_takes_no_archives_of_several_peers_but_one_that_is_whole() -> None:
    refusal = planned(spread()).refusal
    assert refusal
    assert "its shards are in 2 archives of several peers" in refusal.what
    assert planned(wanted(entry(peer=11, shards=(0, 1)))).refusal is None


def test_a_cluster_never_puts_an_archive_over_what_is_spread_otherwise() -> None:
    assert step(spread(), at=scene(FULL, peers=PEERS), replace=True).drop
    assert step(at=scene(FULL, peers=PEERS), replace=True).drop


def test_keys_of_the_applications_own_need_a_cluster() -> None:
    custom = {"sharding": "custom", "shard_keys": [{"key": "b", "shard_ids": [2]}, {"key": "a", "shard_ids": [1]}]}
    refusal = planned(wanted(entry(**custom))).refusal
    assert refusal
    assert "#10135" in refusal.hint
    found = step(wanted(entry(peer=11, shards=(1, 2), **custom)), at=scene(peers=(11,)))
    assert found.keys == (Key("a", (1,)), Key("b", (2,)))


@pytest.mark.parametrize(
    ("had", "made"),
    [
        ([], ()),
        ([("a", [1]), ("b", [2, 3])], (Key("a", (1,)), Key("b", (2, 3)))),
        ([("b", [2]), (7, [1])], (Key(7, (1,)), Key("b", (2,)))),
        ([("b", [3])], (Key("snapward-filler-1", (1, 2), filler=True), Key("b", (3,)))),
        (
            [("a", [1]), ("c", [4])],
            (Key("a", (1,)), Key("snapward-filler-2", (2, 3), filler=True), Key("c", (4,))),
        ),
        ([("a", [1, 3])], None),
        ([("a", [0])], None),
        ([("a", [1]), ("b", [1])], None),
    ],
)
def test_keys_are_made_so_that_their_shards_get_the_numbers_that_they_had(
    had: list[tuple[str | int, list[int]]], made: tuple[Key, ...] | None
) -> None:
    keys = [{"key": key, "shard_ids": shards} for key, shards in had]
    assert placement.keys(entry(shard_keys=keys)) == made


def pieces_of(*held: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[tuple[Piece, ...], tuple[CollectionEntry, ...]]:
    """Archives by the shards that are taken from them, and all that are in them."""
    entries = tuple(entry(peer=number, shards=shards) for number, (_, shards) in enumerate(held))
    pieces = (Piece(file=one.file, spots=(), shards=taken) for one, (taken, _) in zip(entries, held, strict=True))
    return tuple(pieces), entries


def test_an_archive_that_also_has_what_is_taken_from_another_one_comes_before_that() -> None:
    pieces, entries = pieces_of(((0, 1), (0, 1)), ((2,), (1, 2)), ((3,), (3, 2)))
    assert placement.ordered(pieces, entries) == (pieces[2], pieces[1], pieces[0])
    pieces, entries = pieces_of(((0,), (0, 1)), ((1,), (1, 0)))
    assert placement.ordered(pieces, entries) is None
    refusal = planned(spread_of(pieces, entries), at=scene(peers=(0, 1))).refusal
    assert refusal
    assert "were not whole" in refusal.what


def spread_of(pieces: tuple[Piece, ...], entries: tuple[CollectionEntry, ...]) -> Wanted:
    made = wanted(*entries)
    return structs.replace(made, subject=structs.replace(made.subject, pieces=pieces))


@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=4), st.data())
def test_the_last_archive_with_a_shard_is_the_one_that_it_is_taken_from(
    held: list[set[int]], data: st.DataObject
) -> None:
    owner = {
        shard: data.draw(st.sampled_from([number for number, one in enumerate(held) if shard in one]))
        for shard in set().union(*held)
    }
    taken = [tuple(shard for shard in one if owner[shard] == number) for number, one in enumerate(held)]
    pieces, entries = pieces_of(*((mine, tuple(every)) for mine, every in zip(taken, held, strict=True)))
    found = placement.ordered(pieces, entries)
    if found is not None:
        number = {one.file: at for at, one in enumerate(pieces)}
        now: dict[int, int] = {}
        for one in found:
            now |= dict.fromkeys(held[number[one.file]], number[one.file])
        assert now == owner


def test_shards_are_moved_to_where_their_archive_goes() -> None:
    had = spread()
    to = {"articles.peer-11.snapshot.gz": 11, "articles.peer-12.snapshot.gz": 12}
    goal = placement.wanted(had.pieces, to)
    assert goal == {0: 11, 1: 11, 2: 12}
    assert placement.moves(goal, {0: [12], 1: [13, 11], 2: [12]}) == ([Move(0, 12, 11)], [Move(1, 11, 13)])


@given(st.dictionaries(st.integers(0, 9), st.sampled_from(PEERS)), st.data())
def test_every_shard_is_at_its_peer_alone_and_then_as_often_as_before(
    goal: dict[int, int], data: st.DataObject
) -> None:
    placed = {shard: data.draw(st.lists(st.sampled_from(PEERS), min_size=1, unique=True)) for shard in goal}
    moves, copies = placement.moves(goal, placed)
    now = {shard: set(peers) for shard, peers in placed.items()}
    for move in moves:
        assert move.target not in now[move.shard]
        now[move.shard] = now[move.shard] - {move.source} | {move.target}
    for copy in copies:
        now[copy.shard].remove(copy.target)
    assert now == {shard: {peer} for shard, peer in goal.items()}
    for copy in copies:
        assert copy.source == goal[copy.shard]
        now[copy.shard].add(copy.target)
    assert {shard: len(peers) for shard, peers in now.items()} == {shard: len(peers) for shard, peers in placed.items()}


# Whether it worked.


def judged(state: str, points: int | None = 100, **other: Any) -> Judgement:
    return Judgement(state=state, level="faithful", why="as the engine says", points=points, **other)


@pytest.mark.parametrize(
    ("judgement", "low", "high", "unready", "state", "why"),
    [
        (judged("passed"), 100, 100, (), "good", "restored 100 of 100 points"),
        (judged("failed", 0), 5000, 5000, (), "bad", "restored 0 of 5000 points; as the engine says"),
        (judged("passed"), 90, 110, (), "good", "restored 100 of 90 to 110 points"),
        (
            judged("passed", asked=3, matched=3, compared=7, same=7),
            100,
            100,
            (),
            "good",
            "restored 100 of 100 points; 3 of 3 probes answered as recorded; 7 of 7 points hold what they held",
        ),
        (judged("inconclusive", None), 100, 100, (), "unknown", "as the engine says"),
        (judged("passed"), None, None, (), "good", "restored 100 points; how many there were was not recorded"),
        (judged("passed"), 100, 100, ("its status is red",), "bad", "restored 100 of 100 points; its status is red"),
    ],
)
def test_a_restore_is_told_by_its_points_first(
    judgement: Judgement, low: int | None, high: int | None, unready: tuple[str, ...], state: str, why: str
) -> None:
    assert verdict(judgement, low, high, unready) == (state, why)


# The server's own files.


ALLOWED = ("/etc/qdrant", "/opt/q/one.yaml")


def test_files_go_back_to_where_they_came_from() -> None:
    found = sort(
        [
            Member("etc/qdrant", "folder"),
            Member("etc/qdrant/config.yaml", "file"),
            Member("etc/qdrant/current", "link"),
            Member("opt/q/one.yaml", "file"),
        ],
        ALLOWED,
    )
    assert found.files == {"etc/qdrant/config.yaml": "/etc/qdrant/config.yaml", "opt/q/one.yaml": "/opt/q/one.yaml"}
    assert found.links == ("/etc/qdrant/current",)
    assert not found.refused


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("etc/shadow", "file"),
        ("../etc/qdrant/x", "file"),
        ("etc/qdrant/../shadow", "file"),
        ("etc/qdrant/../qdrant/x", "file"),
        ("/etc/shadow", "file"),
        ("etc/qdrant2/x", "file"),
        ("opt/q/one.yaml.sh", "file"),
        ("etc/qdrant/null", "device"),
        ("etc/cron.d", "link"),
        ("etc", "folder"),
    ],
)
def test_what_does_not_belong_to_the_server_is_refused_and_all_the_rest_with_it(name: str, kind: str) -> None:
    found = sort([Member("etc/qdrant/config.yaml", "file"), Member(name, kind)], ALLOWED)
    assert found.refused
    assert not found.files
