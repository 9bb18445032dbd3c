from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from agent.rules.archive import Promise
from agent.rules.copies import Backup, Copy, File, Is
from agent.rules.finding import Level
from agent.rules.keeping import Age, Policy
from agent.rules.repair import Item, Location, Plan, plan, unequal

DAY = 86_400.0
NOW = 1_800_000_000.0
UTC = ZoneInfo("UTC")
PROMISED = {"a": Promise("manifest.json", "aa", 100), "b": Promise("manifest.json", "bb", 50)}
GOOD = {"a": File(state=Is.GOOD, sha256="aa", had=True), "b": File(state=Is.GOOD, sha256="bb", had=True)}
WHOLE = Copy(promised=PROMISED, files=GOOD)
NEVER = Copy(there=False, had=False)
GONE = Copy(there=False, had=True)
HERE = [Location(name="primary", policies={}), Location(name="secondary", policies={})]


def backup(age: float = 1, tier: str = "daily", **copies: Copy) -> Backup:
    started = NOW - age * DAY
    return Backup(
        tier=tier, id=f"{age:g}", path=f"{tier}/{age:g}", started=started, made=started, complete=True, copies=copies
    )


def bad(name: str, *, had: bool) -> Copy:
    spoilt = File(state=Is.BAD, sha256="zz", why="SHA-256 is zz", verdict="corrupt", had=had)
    return replace(WHOLE, files={**GOOD, name: spoilt})


def lacking(name: str, *, had: bool) -> Copy:
    return replace(WHOLE, files={**GOOD, name: File(state=Is.MISSING, had=had)})


def decided(*backups: Backup, locations: list[Location] | None = None, begun: tuple[tuple[str, str], ...] = ()) -> Plan:
    return plan(backups, locations or HERE, NOW, UTC, begun=begun)


def shown(items: tuple[Item, ...]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.location, one.backup.path, tuple(part.name for part in one.parts)) for one in items]


def test_equal_copies_lack_nothing() -> None:
    assert decided(backup(primary=WHOLE, secondary=WHOLE)) == Plan()


@pytest.mark.parametrize(
    ("copy", "names", "automatic", "why"),
    [
        (NEVER, ("a", "b"), True, "is not there"),
        (GONE, ("a", "b"), False, "was there, and is gone"),
        (bad("a", had=False), ("a",), True, "a corrupt: SHA-256 is zz"),
        (bad("a", had=True), ("a",), False, "a corrupt: SHA-256 is zz"),
        (lacking("b", had=False), ("b",), True, "b is not there"),
        (lacking("b", had=True), ("b",), False, "b is gone"),
        (replace(WHOLE, promised=None, problem="is no JSON"), ("manifest.json",), False, "manifest.json is no JSON"),
        (replace(WHOLE, promised=None, had=False), ("manifest.json",), True, "manifest.json is not there"),
    ],
    ids=["never", "vanished", "never good", "went bad", "file never", "file gone", "manifest bad", "manifest never"],
)
def test_what_a_location_lacks_and_whether_that_is_made_unasked(
    copy: Copy,
    names: tuple[str, ...],
    automatic: bool,  # noqa: FBT001 - a column of the table
    why: str,
) -> None:
    found = decided(backup(primary=WHOLE, secondary=copy))
    assert shown(found.items) == [("secondary", "daily/1", names)]
    assert found.items[0].why == why
    assert {part.source for part in found.items[0].parts} == {"primary"}
    assert shown(found.automatic) == (shown(found.items) if automatic else [])


def test_of_a_copy_with_both_only_what_was_never_there_is_made_unasked() -> None:
    files = {"a": File(state=Is.MISSING, had=False), "b": bad("b", had=True).files["b"]}
    found = decided(backup(primary=WHOLE, secondary=replace(WHOLE, files=files)))
    assert shown(found.items) == [("secondary", "daily/1", ("a", "b"))]
    assert shown(found.automatic) == [("secondary", "daily/1", ("a",))]


def test_what_was_begun_is_finished_unasked() -> None:
    one = backup(primary=WHOLE, secondary=GONE)
    assert shown(decided(one, begun=(("secondary", "daily/1"),)).automatic) == [("secondary", "daily/1", ("a", "b"))]
    assert decided(one, begun=(("primary", "daily/1"),)).automatic == ()


def test_a_file_nobody_has_read_yet_is_waited_for() -> None:
    unread = replace(WHOLE, files={**GOOD, "a": File(state=Is.UNREAD)})
    assert decided(backup(primary=WHOLE, secondary=unread)) == Plan()


def test_two_copies_make_each_other_whole() -> None:
    found = decided(backup(primary=bad("a", had=True), secondary=bad("b", had=True)))
    assert [(one.location, one.parts[0].name, one.parts[0].source) for one in found.items] == [
        ("primary", "a", "secondary"),
        ("secondary", "b", "primary"),
    ]


def test_what_is_bad_everywhere_is_left_and_the_rest_is_made() -> None:
    both = {"a": bad("a", had=True).files["a"], "b": File(state=Is.MISSING)}
    found = decided(backup(primary=bad("a", had=True), secondary=replace(WHOLE, files=both)))
    assert shown(found.items) == [("secondary", "daily/1", ("b",))]
    assert [(one.location, one.why) for one in found.left] == [
        ("primary", "a: corrupt: SHA-256 is zz; no location has it good"),
        ("secondary", "a: corrupt: SHA-256 is zz; no location has it good"),
    ]


def test_whole_copies_that_promise_different_things_are_for_people() -> None:
    other = Copy(promised={"a": Promise("m", "xx", 1)}, files={"a": File(state=Is.GOOD, sha256="xx")})
    found = decided(backup(primary=WHOLE, secondary=other))
    assert found.items == ()
    assert [(one.location, one.why[:31]) for one in found.left] == [("secondary", "the copies are whole, but promi")]


def test_a_manifest_with_the_right_signature_is_believed() -> None:
    other = Copy(promised={"a": Promise("m", "xx", 1)}, files={"a": File(state=Is.GOOD, sha256="xx", had=True)})
    found = decided(backup(primary=replace(other, trusted=False), secondary=WHOLE))
    assert shown(found.items) == [("primary", "daily/1", ("a", "b", "manifest.json"))]
    assert found.automatic == ()


def test_small_files_that_differ_are_made_from_the_copy_that_is_believed() -> None:
    mine = {"RESTORE.md": "1", "SHA256SUMS": "2", "manifest.json": "3", "a.baseline.json": "4"}
    theirs = {"RESTORE.md": "9", "manifest.json": "3", "notes": "5"}
    one = backup(primary=replace(WHOLE, sides=mine), secondary=replace(WHOLE, sides=theirs))
    (item,) = decided(one).items
    assert [(part.name, part.promise.sha256, part.bad is not None) for part in item.parts] == [
        ("RESTORE.md", "1", True),
        ("SHA256SUMS", "2", False),
        ("a.baseline.json", "4", False),
    ]
    turned = [HERE[1], HERE[0]]
    assert [one.location for one in decided(one, locations=turned).items] == ["primary"]


def test_a_location_that_is_away_is_neither_mended_nor_believed() -> None:
    away = [HERE[0], replace(HERE[1], away="nothing is mounted")]
    assert decided(backup(primary=WHOLE, secondary=NEVER), locations=away) == Plan()
    found = decided(backup(primary=bad("a", had=True), secondary=WHOLE), locations=away)
    assert found.items == ()
    assert [one.location for one in found.left] == ["primary"]


def test_only_what_a_location_is_to_keep_is_made_there() -> None:
    keep = {"daily": Policy(Age(7, "d"))}
    here = [HERE[0], Location(name="secondary", policies=keep)]
    ages = (1, 6, 8, 20)
    found = decided(*(backup(age, primary=WHOLE, secondary=NEVER) for age in ages), locations=here)
    # The newest that is old enough stays until another is: it is the only one that leads back so far.
    assert [path for _, path, _ in shown(found.items)] == ["daily/1", "daily/6", "daily/8"]
    pinned = replace(backup(20, primary=WHOLE, secondary=NEVER), pinned=True)
    found = decided(
        backup(1, primary=WHOLE, secondary=WHOLE), backup(8, primary=WHOLE, secondary=WHOLE), pinned, locations=here
    )
    assert [path for _, path, _ in shown(found.items)] == ["daily/20"]


def test_one_that_is_good_nowhere_pushes_no_other_out() -> None:
    keep = {"daily": Policy(1)}
    here = [HERE[0], Location(name="secondary", policies=keep)]
    hopeless = backup(1, primary=bad("a", had=True), secondary=NEVER)
    found = decided(hopeless, backup(2, primary=WHOLE, secondary=NEVER), locations=here)
    assert ("secondary", "daily/2", ("a", "b")) in shown(found.items)


def test_copies_that_lack_are_told_once_they_are_an_hour_old() -> None:
    found = decided(backup(1, primary=WHOLE, secondary=GONE), backup(0.01, primary=WHOLE, secondary=NEVER))
    told = unequal("secondary", found, 0.0, NOW)
    assert (told.rule, told.subject, told.level) == ("copies_unequal", "secondary", Level.WARNING)
    assert told.why == "1 backup without a good copy there, and good elsewhere: daily/1 (was there, and is gone)"
    assert "`snapward repair --yes`" in told.hint
    assert unequal("primary", found, 0.0, NOW).level is Level.OK
    assert unequal("secondary", found, NOW - 600, NOW).level is Level.OK
    assert unequal("secondary", found, NOW - 3601, NOW).level is Level.WARNING
    young = decided(backup(0.01, primary=WHOLE, secondary=NEVER))
    assert unequal("secondary", young, 0.0, NOW).level is Level.OK
