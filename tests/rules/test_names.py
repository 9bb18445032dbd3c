import os
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.rules.names import backup_id, chosen, file_stem

PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
# Few letters, so that names that only just differ are common; long runs reach the limit.
names = st.one_of(
    st.binary(min_size=1, max_size=40).map(os.fsdecode),
    st.text("a.%~/\\ é\udcff", min_size=1, max_size=12),
    st.builds(lambda run, end: "a" * run + end, st.integers(190, 260), st.text("ab~%é", max_size=3)),
).filter(bool)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        (PLAIN.lstrip("."), PLAIN.lstrip(".")),
        ("products", "products"),
        ("v1.2", "v1.2"),
        (".hidden", "%2Ehidden"),
        ("..", "%2E."),
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        ("a~b", "a%7Eb"),
        ("a b\n", "a%20b%0A"),
        ("Größe", "Gr%C3%B6%C3%9Fe"),
        ("a\udcff", "a%FF"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 183 + "~84a0678c90937f5d"),
    ],
)
def test_what_is_not_plain_is_percent_encoded(name: str, stem: str) -> None:
    assert file_stem(name) == stem


@given(st.lists(names, min_size=2, max_size=6, unique=True))
@example(["a" * 201, "a" * 202])
@example(["é" * 100, "é" * 99 + "e"])
@example([".a", "%2Ea"])
@example(["\udcff" * 100, "\udcfe" * 100])
def test_two_collections_never_share_a_file(collections: list[str]) -> None:
    stems = [file_stem(name) for name in collections]
    assert len(set(stems)) == len(stems)


@given(names)
def test_a_file_name_fits_every_file_system_and_hides_nowhere(name: str) -> None:
    file = f"{file_stem(name)}.snapshot.gz.sha256"
    assert len(file.encode("ascii")) <= 255
    assert "/" not in file
    assert not file.startswith(".")
    assert file.isprintable()


def test_an_id_is_the_moment_in_utc_and_sorts_by_it() -> None:
    assert backup_id(datetime(2026, 11, 23, 2, 0, 5, 900_000, tzinfo=UTC).timestamp()) == "20261123T020005Z"
    assert backup_id(0) == "19700101T000000Z"


@given(st.integers(0, 4_000_000_000), st.integers(1, 1_000_000_000))
def test_later_backups_have_larger_ids(at: int, later: int) -> None:
    assert backup_id(at) < backup_id(at + later)


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*",), (), ["docs", "docs-old", "Test"]),
        (("docs*",), (), ["docs", "docs-old"]),
        (("docs",), (), ["docs"]),
        (("*",), ("*-old", "nothing"), ["docs", "Test"]),
        (("docs*", "T*"), ("docs*",), ["Test"]),
        (("test",), (), []),
        ((), (), []),
    ],
)
def test_a_collection_is_chosen_by_what_includes_and_nothing_that_excludes_it(
    include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    assert chosen(["docs", "docs-old", "Test"], include, exclude) == expected
