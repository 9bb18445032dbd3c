from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.cluster import Layout, Peer, gaps, is_active

STATES = (
    "Active",
    "Dead",
    "Partial",
    "Initializing",
    "Listener",
    "PartialSnapshot",
    "Recovery",
    "Resharding",
    "ReshardingScaleDown",
    "ActiveRead",
    "ManualRecovery",
)
Placing = Mapping[int, Mapping[int, str]]  # shard to peer to state


def peers(*numbers: int, silent: int = 0) -> tuple[Peer, ...]:
    told = {"peers": {str(one): {"uri": f"http://inside-{one}:6335/"} for one in numbers}}
    answered = tuple(Peer(f"http://out-{one}:6333", one, told) for one in numbers)
    return answered + tuple(Peer(f"http://silent-{one}", None, problem="away") for one in range(silent))


def as_seen_by(peer: int, placing: Placing, **more: Any) -> dict[str, Any]:
    """What `/collections/{name}/cluster` says there."""
    near = [{"shard_id": one, "state": states[peer]} for one, states in placing.items() if peer in states]
    far = [
        {"shard_id": one, "peer_id": other, "state": state}
        for one, states in placing.items()
        for other, state in states.items()
        if other != peer
    ]
    return {"peer_id": peer, "shard_count": len(placing), "local_shards": near, "remote_shards": far, **more}


def layout(placing: Placing, *answering: int) -> Layout:
    every = {peer for states in placing.values() for peer in states} | set(answering)
    told = {"peers": {str(one): {"uri": f"http://inside-{one}:6335/"} for one in every}}
    asked = tuple(Peer(f"http://out-{one}:6333", one, told) for one in answering)
    return Layout(asked, {"c": {one: as_seen_by(one, placing) for one in answering}})


TWICE: Placing = {0: {1: "Active", 2: "Active"}, 1: {2: "Active", 3: "Active"}, 2: {3: "Active", 1: "Active"}}
ONCE: Placing = {0: {1: "Active"}, 1: {2: "Active"}, 2: {3: "Dead"}}

GONE = "shard 1 (peer 2 http://inside-2:6335/ Active); shard 2 (peer 3 http://inside-3:6335/ Dead, not in engine.peers)"
TABLE: list[tuple[str, Placing, tuple[int, ...], list[tuple[str, int | None, tuple[int, ...]]], str]] = [
    ("all is there", TWICE, (1, 2, 3), [("c", 1, (0, 2)), ("c", 2, (0, 1)), ("c", 3, (1, 2))], ""),
    ("one replica of each is enough", TWICE, (1, 2), [("c", 1, (0, 2)), ("c", 2, (0, 1))], ""),
    (
        "one archive is missing",
        ONCE,
        (1, 2),
        [("c", 1, (0,))],
        f"[2 of 3 peers] 2 shards in no archive of an active replica: {GONE}",
    ),
    (
        "a dead replica does not count",
        ONCE,
        (1, 2, 3),
        [("c", 1, (0,)), ("c", 2, (1,)), ("c", 3, (2,))],
        "[3 of 3 peers] 1 shard in no archive of an active replica: shard 2 (peer 3 http://inside-3:6335/ Dead)",
    ),
    ("a shard more than there are is no matter", {0: {1: "Active"}}, (1,), [("c", 1, (0, 9))], ""),
    ("another collection's archive does not count", {0: {1: "Active"}}, (1,), [("d", 1, (0,))], "shard 0 (peer 1"),
    ("nor does one of nobody knows whom", {0: {1: "Active"}}, (1,), [("c", None, (0,))], "shard 0 (peer 1"),
    ("a shard that is being given away counts", {0: {1: "ReshardingScaleDown"}}, (1,), [("c", 1, (0,))], ""),
    ("no peer answered", {}, (1,), [], "[1 of 1 peers] no peer that answered knows its shards"),
]


@pytest.mark.parametrize(
    ("placing", "answering", "written", "why"), [one[1:] for one in TABLE], ids=[one[0] for one in TABLE]
)
def test_what_a_set_of_archives_leaves_out(
    placing: Placing, answering: tuple[int, ...], written: list[tuple[str, int | None, tuple[int, ...]]], why: str
) -> None:
    found = list(gaps(layout(placing, *answering), written))
    assert [one.name for one in found] == (["c"] if why else [])
    assert all(why in one.why for one in found)


def test_without_a_cluster_there_are_no_gaps() -> None:
    assert list(gaps(Layout(), [("c", None, (0,))])) == []
    assert Layout().told() == {}


def test_a_shard_that_lost_its_last_replica_is_missed() -> None:
    told = as_seen_by(1, {0: {1: "Active"}}, shard_count=3)
    found = list(gaps(Layout(peers(1), {"c": {1: told}}), [("c", 1, (0,))]))
    assert [one.why for one in found] == ["[1 of 1 peers] 2 shards without any replica: no peer holds them any more"]


def test_a_peer_that_was_cut_off_is_not_believed_that_it_is_active() -> None:
    """It says of itself that it is active, the others know that it is dead: its archive may lack what came since."""
    cut_off = as_seen_by(1, {0: {1: "Active", 2: "Active"}})
    others = as_seen_by(2, {0: {1: "Dead", 2: "Active"}})
    for placed in ({1: cut_off, 2: others}, {2: others, 1: cut_off}):
        seen = Layout(peers(1, 2), {"c": placed})
        assert [one.name for one in gaps(seen, [("c", 1, (0,))])] == ["c"]
        assert list(gaps(seen, [("c", 2, (0,))])) == []
        assert seen.told()["shards"] == {"c": {0: {1: "Dead", 2: "Active"}}}


def test_peers_that_did_not_answer_are_told() -> None:
    seen = Layout(peers(1, 2, silent=1), {"c": {1: as_seen_by(1, {0: {1: "Active"}, 1: {2: "Active"}})}})
    assert seen.holders("c") == [1]
    assert seen.holders("d") == []
    assert seen.known() == {1: "http://inside-1:6335/", 2: "http://inside-2:6335/"}
    assert seen.told() == {
        "peers": [
            {"id": 1, "uri": "http://inside-1:6335/", "url": "http://out-1:6333"},
            {"id": 2, "uri": "http://inside-2:6335/", "url": "http://out-2:6333"},
        ],
        "silent": [{"url": "http://silent-0", "why": "away"}],
        "shards": {"c": {0: {1: "Active"}, 1: {2: "Active"}}},
    }


def test_those_states_are_active_that_qdrant_takes_for_the_truth() -> None:
    assert [one for one in STATES if is_active(one)] == ["Active", "ReshardingScaleDown"]


PLACED = st.dictionaries(
    st.integers(0, 5), st.dictionaries(st.integers(1, 4), st.sampled_from(STATES), min_size=1), max_size=6
)
COLLECTIONS = st.dictionaries(st.sampled_from("abc"), PLACED, max_size=3)
WRITTEN = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.none() | st.integers(1, 5),
        st.lists(st.integers(0, 6), max_size=4).map(tuple),
    ),
    max_size=8,
)


@given(COLLECTIONS, st.sets(st.integers(1, 4), min_size=1), WRITTEN)
def test_each_shard_is_in_an_archive_of_an_active_replica_or_named(
    collections: dict[str, Placing], answering: set[int], written: list[tuple[str, int | None, tuple[int, ...]]]
) -> None:
    seen = Layout(
        peers(*sorted(answering)),
        {name: {peer: as_seen_by(peer, placing) for peer in answering} for name, placing in collections.items()},
    )
    failed = {one.name: one.why for one in gaps(seen, written)}
    assert set(failed) <= set(collections)
    for name, placing in collections.items():
        for shard, states in placing.items():
            safe = any(
                one == name and shard in shards and peer is not None and is_active(states.get(peer, ""))
                for one, peer, shards in written
            )
            assert safe != (f"shard {shard} (" in failed.get(name, ""))
        if not placing:
            assert "no peer that answered knows its shards" in failed[name]
