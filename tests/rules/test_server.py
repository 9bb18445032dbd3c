import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.finding import Finding, Level, ok
from agent.rules.server import COLLECTION_RULES, CollectionView, PeerView, SnapshotView, View, gone, judge

OK, WARNING, CRITICAL = Level.OK, Level.WARNING, Level.CRITICAL
NOW = 1_800_000_000.0
DAY = 86400.0
URL = "http://q:6333"
MIB = 1 << 20


def collection(name: str = "cities", status: str = "green", **more) -> CollectionView:
    return CollectionView(name, status, **more)


def view(*collections: CollectionView, **more) -> View:
    return View(**{"url": URL, "version": "1.19.2", "collections": collections, **more})


def found(seen: View, rule: str, subject: str = "cities", **how) -> Finding:
    one, *others = [one for one in judge(seen, NOW, **how) if (one.rule, one.subject) == (rule, subject)]
    assert not others
    return one


def snapshot(name: str, days: float | None, *, ours: bool = False, size: int = MIB) -> SnapshotView:
    return SnapshotView(name, size, None if days is None else NOW - days * DAY, ours)


def test_a_server_in_order_ends_every_incident() -> None:
    peers = (PeerView(1, "http://a:6335", URL), PeerView(2, "http://b:6335"))
    findings = judge(view(collection(), collection("roads"), peers=peers), NOW)
    assert {one.level for one in findings} == {OK}
    assert sorted((one.rule, one.subject) for one in findings) == sorted(
        [
            ("server_unreachable", "server"),
            ("server_denied", "server"),
            ("server_version", "server"),
            ("snapshots_forgotten", "server/snapshots"),
            ("peer_unreachable", URL),
            *((rule, name) for rule in COLLECTION_RULES for name in ("cities", "roads")),
        ]
    )


def test_a_server_that_does_not_answer_is_critical_and_nothing_else_is_said() -> None:
    findings = judge(view(collection(status="red"), problem="connection refused"), NOW)
    assert [(one.rule, one.subject, one.level) for one in findings] == [("server_unreachable", "server", CRITICAL)]
    assert findings[0].why == "http://q:6333 does not answer: connection refused"
    assert "engine.url" in findings[0].hint


def test_a_refused_key_is_critical_and_only_the_version_is_judged_beside_it() -> None:
    findings = judge(view(version="1.16.1", denied="Invalid API key or JWT"), NOW)
    assert [(one.rule, one.level) for one in findings] == [
        ("server_unreachable", OK),
        ("server_denied", CRITICAL),
        ("server_version", CRITICAL),
    ]
    assert findings[1].why == "http://q:6333 refuses the key: Invalid API key or JWT"
    assert "engine.api_key" in findings[1].hint


def test_missing_rights_are_named_and_what_they_hide_is_not_called_fine() -> None:
    seen = view(collection(), missing_rights=("reading the whole server", "listing full snapshots"))
    denied = found(seen, "server_denied", "server")
    assert denied.level is WARNING
    assert denied.why == "the key lacks a right: reading the whole server; listing full snapshots"
    subjects = {(one.rule, one.subject) for one in judge(seen, NOW)}
    assert ("snapshots_forgotten", "server/snapshots") not in subjects
    assert ("collection_red", "cities") in subjects


@pytest.mark.parametrize(("status", "level"), [("green", OK), ("yellow", OK), ("grey", OK), ("red", CRITICAL)])
def test_only_red_is_an_alert(status: str, level: Level) -> None:
    assert found(view(collection(status=status)), "collection_red").level is level


@pytest.mark.parametrize(("status", "told"), [("", "its status is not told"), ("purple", "its status is purple")])
def test_a_status_that_is_not_known_is_not_fine(status: str, told: str) -> None:
    seen = view(collection(status=status))
    unknown = found(seen, "collection_unknown")
    assert (unknown.level, unknown.why) == (WARNING, f"could not be looked at: {told}")
    assert "collection_red" not in {one.rule for one in judge(seen, NOW)}


def test_a_collection_that_could_not_be_looked_at_is_told_and_nothing_else_is_said_of_it() -> None:
    seen = view(collection(status="green", problem="timed out", dead_replicas=("x",)), collection("roads"))
    rules = [(one.rule, one.level) for one in judge(seen, NOW) if one.subject == "cities"]
    assert rules == [("collection_unknown", WARNING)]
    assert len([one for one in judge(seen, NOW) if one.subject == "roads"]) == len(COLLECTION_RULES)


def test_a_failed_optimizer_is_told_with_its_error() -> None:
    failed = found(view(collection(optimizer="No space left on device" + "!" * 999)), "optimizer_failed")
    assert failed.level is WARNING
    assert failed.why.startswith("its optimizer failed: No space left on device")
    assert len(failed.why) < 400


def test_replicas_that_are_not_active_are_named() -> None:
    dead = tuple(f"shard {number} on peer 7: Dead" for number in range(8))
    some = found(view(collection(dead_replicas=dead[:1])), "replicas_dead")
    assert (some.level, some.why) == (WARNING, "1 replica not active: shard 0 on peer 7: Dead")
    many = found(view(collection(dead_replicas=dead)), "replicas_dead").why
    assert many.endswith("shard 4 on peer 7: Dead; and 3 more")


def test_a_shard_without_an_active_replica_is_critical() -> None:
    lost = found(view(collection(dead_replicas=("shard 2 on peer 7: Dead",), lost_shards=(2,))), "replicas_dead")
    assert lost.level is CRITICAL
    assert lost.why == "no replica is active of shard 2 (shard 2 on peer 7: Dead)"
    assert found(view(collection(lost_shards=(2, 3))), "replicas_dead").why == "no replica is active of shards 2, 3"


def test_young_snapshots_of_others_and_ours_in_use_are_no_alert() -> None:
    there = (snapshot("theirs", 0.9), snapshot("nobody-knows-when", None), snapshot("ours", 30, ours=True))
    calm = found(view(collection(snapshots=there)), "snapshots_forgotten", busy=frozenset({"cities"}))
    assert calm == ok("snapshots_forgotten", "cities", "no snapshot lies on the server for nothing")


def test_old_snapshots_of_others_are_told_with_number_size_and_the_oldest_and_how_to_delete_it() -> None:
    there = (snapshot("b.snapshot", 2, size=3 * MIB), snapshot("a b.snapshot", 12), snapshot("c.snapshot", 0.5))
    old = found(view(collection("ci ty", snapshots=there)), "snapshots_forgotten", "ci ty")
    assert old.level is WARNING
    assert old.why == "2 snapshots of 4 MiB on the server; the oldest is a b.snapshot, made 12 days ago"
    assert old.hint == (
        "Delete what nobody needs: curl -X DELETE -H 'api-key: KEY'"
        " http://q:6333/collections/ci%20ty/snapshots/a%20b.snapshot"
    )


def test_what_this_agent_left_is_told_at_any_age() -> None:
    there = (snapshot("left.snapshot", 0, ours=True), snapshot("theirs.snapshot", 3))
    left = found(view(collection(snapshots=there)), "snapshots_forgotten")
    assert left.why == (
        "2 snapshots of 2 MiB on the server, 1 of them left by this agent;"
        " the oldest is theirs.snapshot, made 3 days ago"
    )
    assert left.hint.startswith("The next backup deletes what this agent left. Delete what nobody needs: ")
    ageless = found(view(collection(snapshots=(snapshot("x", None, ours=True),))), "snapshots_forgotten")
    assert ageless.why == "1 snapshot of 1 MiB on the server, 1 of them left by this agent; the oldest is x"
    assert ageless.hint == "The next backup deletes what this agent left."


def test_full_snapshots_have_a_subject_that_no_collection_can_have() -> None:
    seen = view(collection("server"), url=f"{URL}/", full_snapshots=(snapshot("full.snapshot", 9),))
    full = found(seen, "snapshots_forgotten", "server/snapshots")
    assert full.level is WARNING
    assert full.hint.endswith(" http://q:6333/snapshots/full.snapshot")
    assert found(seen, "snapshots_forgotten", "server").level is OK


def test_how_old_is_too_old_can_be_said() -> None:
    seen = view(collection(snapshots=(snapshot("x", 2),)))
    assert found(seen, "snapshots_forgotten", old=3 * DAY).level is OK


def test_a_peer_is_called_by_the_url_where_it_is_asked() -> None:
    peers = (PeerView(7, "http://a:6335", "http://a:6333"), PeerView(-1, "", "http://b:6333", "timed out"))
    silent = found(view(peers=peers), "peer_unreachable", "http://b:6333")
    assert (silent.level, silent.why) == (WARNING, "this peer of the cluster does not answer: timed out")
    assert found(view(peers=peers), "peer_unreachable", "http://a:6333") == ok(
        "peer_unreachable", "http://a:6333", "peer 7 answers"
    )


def test_the_version_is_judged() -> None:
    assert found(view(version="1.16.0"), "server_version", "server").level is CRITICAL


OPEN = [(rule, name) for rule in sorted(COLLECTION_RULES) for name in ("cities", "roads")] + [
    ("peer_unreachable", "http://a:6333"),
    ("peer_unreachable", "http://b:6333"),
    ("snapshots_forgotten", "server/snapshots"),
    ("server_denied", "server"),
    ("archive_bad", "primary:daily/x/roads.snapshot"),
]
PEERS = (PeerView(7, "", "http://a:6333"),)


def test_what_is_no_longer_there_ends_its_incidents() -> None:
    ended = gone(OPEN, view(collection(), peers=PEERS))
    assert {one.level for one in ended} == {OK}
    assert {(one.rule, one.subject) for one in ended} == {
        ("peer_unreachable", "http://b:6333"),
        *((rule, "roads") for rule in COLLECTION_RULES),
    }
    assert ended[0].why == "roads is no longer there"


@pytest.mark.parametrize("blind", [{"problem": "refused"}, {"denied": "no"}])
def test_a_server_that_could_not_be_looked_at_ends_nothing(blind: dict[str, str]) -> None:
    assert gone(OPEN, View(URL, **blind)) == []


def test_a_key_that_hides_collections_cannot_tell_that_one_is_gone() -> None:
    ended = gone(OPEN, view(collection(), peers=PEERS, missing_rights=("reading the whole server",)))
    assert [(one.rule, one.subject) for one in ended] == [("peer_unreachable", "http://b:6333")]


names = st.sampled_from(["cities", "server", "a/b", "", "server/snapshots"])
snapshots = st.builds(
    SnapshotView, st.text(max_size=5), st.integers(0, 1 << 50), st.none() | st.floats(0, 2 * NOW), st.booleans()
)
collections = st.builds(
    CollectionView,
    st.text(max_size=5) | names,
    st.sampled_from(["green", "yellow", "grey", "red", "", "?"]),
    st.sampled_from(["ok", "failed"]),
    dead_replicas=st.lists(st.text(max_size=3), max_size=7).map(tuple),
    lost_shards=st.lists(st.integers(0, 9), max_size=2).map(tuple),
    problem=st.sampled_from(["", "timed out"]),
    snapshots=st.lists(snapshots, max_size=3).map(tuple),
)
views = st.builds(
    View,
    st.just(URL),
    problem=st.sampled_from(["", "refused"]),
    denied=st.sampled_from(["", "no"]),
    missing_rights=st.sampled_from([(), ("all",)]),
    version=st.sampled_from(["1.19.2", "1.16.0", ""]),
    collections=st.lists(collections, max_size=3, unique_by=lambda one: one.name).map(tuple),
    full_snapshots=st.lists(snapshots, max_size=2).map(tuple),
)


@given(views, st.sets(names))
def test_every_subject_is_judged_once_by_each_rule_and_every_alert_says_what_to_do(seen: View, busy: set[str]) -> None:
    findings = judge(seen, NOW, busy=frozenset(busy))
    keys = [(one.rule, one.subject) for one in findings if one.subject != "server/snapshots"]
    assert len(keys) == len(set(keys))
    assert all(one.why for one in findings)
    assert all(bool(one.hint) is (one.level is not OK) for one in findings)
    assert gone(keys, seen) == []
