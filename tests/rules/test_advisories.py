import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.advisories import KNOWN, NEWEST_READ, finding, known
from agent.rules.finding import Finding, Level, ok

OK, WARNING, CRITICAL = Level.OK, Level.WARNING, Level.CRITICAL
BEFORE_1_19 = {"qdrant#9930", "qdrant#9575", "qdrant#9537"}


def ids(version: str) -> set[str]:
    found = known(version)
    assert found is not None
    return {one.id for one in found}


@pytest.mark.parametrize("one", KNOWN, ids=lambda one: one.id)
def test_each_problem_is_told_from_its_first_version_up_to_the_one_that_mends_it(one) -> None:
    major, minor, patch = map(int, one.fixed_in.split("."))
    before = f"{major}.{minor}.{patch - 1}" if patch else f"{major}.{minor - 1}.99"
    assert one.id not in ids(one.fixed_in)
    assert one.id in ids(before)
    assert one.id in ids(f"{one.fixed_in}-dev")
    assert one.id in ids(one.since or "0.1.0")
    if one.since:
        assert one.id not in ids("1.0.0")
    assert one.level in {WARNING, CRITICAL}
    assert one.why
    assert not one.why.endswith(".")
    assert not one.hint or one.hint.endswith(".")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.19.2", set()),
        ("1.19.0", {"GHSA-3gph-6c29-p29v"}),
        ("1.18.3", {"GHSA-3gph-6c29-p29v", "GHSA-p9c2-9vq2-gxh8", *BEFORE_1_19, "qdrant#9105"}),
        (
            "1.17.1",
            {"GHSA-3v92-w72v-j994", "GHSA-p9c2-9vq2-gxh8", *BEFORE_1_19, "qdrant#9239", "qdrant#9254", "qdrant#9268"},
        ),
    ],
)
def test_what_is_known_of_a_version(version: str, expected: set[str]) -> None:
    assert ids(version) == expected


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("1.19.2", OK),
        ("1.18.3", WARNING),
        ("1.16.2", WARNING),
        ("1.16.1", CRITICAL),
        ("1.8.4", CRITICAL),
        ("0.11.0", CRITICAL),
    ],
)
def test_a_version_is_as_bad_as_the_worst_that_is_known_of_it(version: str, level: Level) -> None:
    assert finding(version).level is level


@pytest.mark.parametrize("version", ["1.18.3", "v1.18.3", " 1.18.3\n", "1.18.3+linux"])
def test_a_version_may_be_written_in_many_ways(version: str) -> None:
    assert ids(version) == ids("1.18.3")


def test_what_comes_before_a_release_may_lack_its_fixes() -> None:
    assert ids("1.19.2-dev") == ids("1.19.2-rc.1") == ids("1.19.1")
    assert ids("1.19") == ids("1.19.0")


@pytest.mark.parametrize(
    "version",
    ["", "master", "1", "1.x.2", "1.18.3.4", "1.18.3 or so", "1.\N{ARABIC-INDIC DIGIT TWO}.3", "1.18." + "9" * 5000],
)
def test_a_version_that_cannot_be_told_is_never_fine(version: str) -> None:
    found = finding(version)
    assert known(version) is None
    assert (found.rule, found.subject, found.level) == ("server_version", "server", WARNING)
    assert "could not be looked up" in found.why
    assert len(found.why) < 200


@given(st.text())
def test_whatever_a_server_says_is_judged(version: str) -> None:
    assert (known(version) is None) is ("could not be looked up" in finding(version).why)


def test_the_finding_names_every_problem_the_worst_first_and_what_mends_them_all() -> None:
    found = finding("1.9.4")
    words = found.why
    assert words.startswith("Qdrant 1.9.4 has 14 known problems: the write-ahead log can corrupt data when the server")
    for one in ids("1.9.4"):
        assert one in words
    assert max(map(words.index, ("qdrant#7674", "qdrant#7298"))) < words.index("qdrant#9575")
    assert found.hint.startswith("Upgrade to 1.19.0 or later, one minor version at a time, and make a backup first.")


def test_one_problem_is_told_with_its_own_advice() -> None:
    assert finding("1.19.0") == Finding(
        "server_version",
        "server",
        WARNING,
        "Qdrant 1.19.0 has 1 known problem: with enforce_internal_auth, peers take a read-only key for one that may"
        " write (GHSA-3gph-6c29-p29v, fixed in 1.19.2)",
        "Upgrade to 1.19.2 or later, one minor version at a time, and make a backup first."
        " Let nobody but the peers reach the internal port (6335).",
    )


def test_a_version_without_known_problems_ends_the_incident_and_one_too_new_to_know_says_so() -> None:
    assert finding(NEWEST_READ) == ok("server_version", "server", f"nothing speaks against Qdrant {NEWEST_READ}")
    newer = finding("1.20.0")
    assert newer.level is OK
    assert newer.why == (
        f"nothing speaks against Qdrant 1.20.0, but it is newer than the {NEWEST_READ} up to which Qdrant's advisories"
        " were read"
    )
