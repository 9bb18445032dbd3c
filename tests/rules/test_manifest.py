import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules.archive import Promise
from agent.rules.manifest import (
    CollectionEntry,
    Failure,
    FileEntry,
    Manifest,
    decode,
    encode,
    epoch,
    promises,
)

SHA = "0123456789abcdef" * 4
LARGEST = 2**63 - 1  # what the ledger can hold

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(0, LARGEST)
some = st.one_of(st.none(), numbers)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-LARGEST, LARGEST), text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=5,
)
objects = st.dictionaries(text, json_values, max_size=3)
manifests = st.builds(
    Manifest,
    id=text,
    tier=text,
    engine=objects,
    agent=objects,
    host=text,
    started=text,
    ended=text,
    compression=objects,
    collections=st.lists(
        st.builds(
            CollectionEntry,
            name=text,
            file=text,
            size=numbers,
            sha256=text,
            raw_size=some,
            raw_sha256=st.one_of(st.none(), text),
            points_before=some,
            points_after=some,
            shards=st.lists(numbers, max_size=3),
            config=objects,
            payload_schema=objects,
            seconds=st.one_of(st.none(), st.floats(0, 1e6)),
        ),
        max_size=2,
    ),
    failed=st.lists(st.builds(Failure, name=text, why=text), max_size=2),
    files=st.lists(st.builds(FileEntry, file=text, size=numbers, sha256=text), max_size=2),
)


def described(**changes: object) -> bytes:
    return json.dumps({"id": "20261123T020000Z", "tier": "daily", "engine": {"kind": "edge"}, **changes}).encode()


@given(manifests)
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    assert decode(encode(manifest)) == manifest


def test_a_manifest_is_written_for_a_reader_without_us() -> None:
    data = encode(Manifest(id="x", tier="daily", engine={}))
    assert data.endswith(b"\n}\n")
    assert b'\n  "schema_version": 1,\n  "id": "x",\n' in data


def test_a_newer_agents_manifest_is_read_past_what_is_unknown() -> None:
    file = {"file": "c.gz", "size": 1, "sha256": SHA, "new": 1}
    assert decode(described(schema_version=2, new={"a": 1}, files=[file])) == Manifest(
        schema_version=2,
        id="20261123T020000Z",
        tier="daily",
        engine={"kind": "edge"},
        files=[FileEntry(file="c.gz", size=1, sha256=SHA)],
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Input data was truncated"),
        (described()[:-1], "Input data was truncated"),
        (described() + b"x", "trailing characters"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"id": "\xff"}', "can't decode byte 0xff"),
        (b'{"id": "x", "tier": "daily"}', "missing required field `engine`"),
        (described(tier=7), "Expected `str`, got `int` - at `$.tier`"),
        (described(engine=None), "$.engine"),
        (described(engine=0).replace(b"0}", b'{"a":' * 9000), "recursion"),
        (described(files=[{"file": "c.gz", "size": -1, "sha256": SHA}]), "$.files[0].size"),
        (described(files=[{"file": "c.gz", "size": LARGEST + 1, "sha256": SHA}]), "$.files[0].size"),
        (described(files=[{"file": "c.gz", "size": 1.5, "sha256": SHA}]), "$.files[0].size"),
        (described(files=[{"file": "c.gz", "size": 1}]), "missing required field `sha256`"),
        *[
            (described(collections=[{"name": "c", "file": "c.gz", "size": 1, "sha256": SHA, key: -1}]), key)
            for key in ("size", "raw_size", "points_before", "points_after")
        ],
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused_and_the_place_is_named(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=r"^manifest\.json cannot be read: ") as refused:
        decode(data)
    assert why in str(refused.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_a_value_error(data: bytes) -> None:
    try:
        decode(data)
    except ValueError as error:
        assert str(error).startswith("manifest.json cannot be read: ")  # noqa: PT017 - a manifest is fine as well


def test_every_file_is_promised_with_size_and_sum() -> None:
    manifest = Manifest(
        id="x",
        tier="daily",
        engine={},
        collections=[CollectionEntry(name="c", file="c.gz", size=7, sha256=SHA.upper(), raw_sha256="f" * 64)],
        files=[FileEntry(file="server-config.tar.gz", size=8, sha256="e" * 64)],
        failed=[Failure(name="d", why="gone")],
    )
    assert promises(manifest) == {
        "c.gz": Promise("manifest.json", SHA, 7),
        "server-config.tar.gz": Promise("manifest.json", "e" * 64, 8),
    }


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-11-23T02:00:00.500Z", datetime(2026, 11, 23, 2, 0, 0, 500_000, tzinfo=UTC).timestamp()),
        ("2026-11-23T03:00:00+01:00", datetime(2026, 11, 23, 2, tzinfo=UTC).timestamp()),
        ("2026-11-23T02:00:00", None),
        ("2026-11-23", None),
        ("yesterday", None),
        ("", None),
        ("9999-12-31T23:59:59-23:59", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp() + 86_340),
    ],
)
def test_a_time_without_its_zone_is_no_time(written: str, at: float | None) -> None:
    assert epoch(written) == at
