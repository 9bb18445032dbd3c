import hmac
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.rules.finding import Level
from agent.rules.manifest import CollectionEntry, Manifest, decode, encode
from agent.rules.seal import Link, Previous, canonical, chain, check, seen, sign, signed

KEY, OLD, OTHER = b"k" * 32, b"o" * 32, b"x" * 32
MANIFEST = encode(
    Manifest(
        id="20261124T020000Z",
        tier="daily",
        engine={"name": "qdrant"},
        started="2026-11-24T02:00:00.000Z",
        collections=[CollectionEntry(name="docs", file="docs.snapshot.gz", size=5, sha256="ab" * 32, seconds=1.5)],
    )
)


def with_field(manifest: bytes, name: str, value: Any) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(manifest) | {name: value})


def sealed(manifest: bytes = MANIFEST, key: bytes = KEY) -> bytes:
    return with_field(manifest, "signature", sign(key, manifest))


def levels(manifest: bytes, *, expected: bool = True) -> dict[str, Level]:
    return {one.rule: one.level for one in signed("primary:daily/b", seen(manifest), [KEY, OLD], expected=expected)}


def test_a_signed_manifest_is_believed_and_can_still_be_read() -> None:
    assert check([KEY], sealed()) == ""
    assert decode(sealed()).collections[0].name == "docs"
    assert levels(sealed()) == {"manifest_unsigned": Level.OK, "manifest_forged": Level.OK}


def test_the_signature_is_the_hmac_of_the_hash_of_the_manifest_in_its_canonical_form() -> None:
    method, _, value = sign(KEY, b'{"b": 1.50, "a": [1, 2]}').split(":")
    assert (method, value) == ("hmac-sha256", hmac.digest(KEY, sha256(b'{"a":[1,2],"b":1.5}').digest(), "sha256").hex())


def test_neither_order_nor_space_nor_the_signature_itself_is_signed() -> None:
    document = msgspec.json.decode(sealed())
    turned = msgspec.json.format(msgspec.json.encode(dict(reversed(document.items()))), indent=7)
    assert turned != sealed()
    assert check([KEY], turned) == ""
    assert canonical(turned) == canonical(MANIFEST)
    assert sign(KEY, sealed()) == sign(KEY, MANIFEST)


def test_a_field_that_only_a_newer_version_knows_is_signed_too() -> None:
    newer = sealed(with_field(MANIFEST, "later", {"deep": [1]}))
    assert check([KEY], newer) == ""
    assert check([KEY], with_field(newer, "later", {"deep": [2]})) != ""
    assert check([KEY], with_field(sealed(), "later", None)) != ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text(min_size=1).filter(lambda name: name != "signature"), JSON, max_size=4)


@settings(max_examples=40)
@given(DOCUMENTS, DOCUMENTS, st.binary(min_size=16, max_size=64), st.binary(min_size=16, max_size=64))
def test_a_signature_holds_for_one_document_and_one_key(
    document: dict[str, Any], other: dict[str, Any], key: bytes, wrong: bytes
) -> None:
    whole, another = msgspec.json.encode(document), msgspec.json.encode(other)
    signature = sign(key, whole)
    assert check([key], with_field(whole, "signature", signature)) == ""
    believed = check([key], with_field(another, "signature", signature)) == ""
    assert believed == (canonical(another) == canonical(whole))
    assert (check([wrong], with_field(whole, "signature", signature)) == "") == (wrong == key)


def test_no_byte_of_a_signed_manifest_can_be_changed_without_notice() -> None:
    whole = sealed()
    for at in range(len(whole)):
        for flip in (1, 2, 0x20):
            changed = bytes([*whole[:at], whole[at] ^ flip, *whole[at + 1 :]])
            try:
                same = canonical(changed) == canonical(whole) and b'"signature"' in changed
            except ValueError:
                same = False
            assert check([KEY], changed) != "" or same, changed


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (MANIFEST, "it carries no signature"),
        (with_field(MANIFEST, "signature", ""), "it carries no signature"),
        (with_field(MANIFEST, "signature", None), "it carries no signature"),
        (sealed(key=OTHER), "it was signed with another key: '"),
        (with_field(sealed(), "tier", "weekly"), "its signature does not match: it was changed after it was signed"),
        (with_field(MANIFEST, "signature", "md5:1234"), "its signature is of a kind that is not known: 'md5'"),
        (with_field(MANIFEST, "signature", {"a": 1}), "its signature is of a kind that is not known: "),
        (with_field(MANIFEST, "signature", sign(KEY, MANIFEST)[:-1]), "its signature does not match"),
        (with_field(MANIFEST, "signature", sign(KEY, MANIFEST) + "é"), "its signature does not match"),
        (b"", "manifest.json cannot be read: "),
        (b"\xff{}", "manifest.json cannot be read: "),
        (b"[1]", "manifest.json is no object"),
        (b'{"a":' * 100_000, "manifest.json cannot be read: "),
    ],
)
def test_a_signature_that_is_not_to_be_trusted_says_why(manifest: bytes, why: str) -> None:
    assert check([KEY, OLD], manifest).startswith(why)
    if why.startswith("manifest.json"):
        return  # nothing is known of one that cannot be read
    bad = "manifest_unsigned" if why == "it carries no signature" else "manifest_forged"
    assert {rule for rule, level in levels(manifest).items() if level} == {bad}


def test_a_key_that_was_used_before_is_still_believed() -> None:
    assert check([KEY, OLD], sealed(key=OLD)) == ""
    assert check([KEY], sealed(key=OLD)).startswith("it was signed with another key")


def test_the_signature_does_not_hold_the_key_and_names_it_without_giving_it_away() -> None:
    _, name, _ = sign(KEY, MANIFEST).split(":")
    assert len(name) == 8
    assert name != sign(OLD, MANIFEST).split(":")[1]
    assert KEY.hex()[:8] != name


def test_a_manifest_from_before_there_was_a_key_need_not_be_signed() -> None:
    assert levels(MANIFEST, expected=False) == {"manifest_unsigned": Level.OK, "manifest_forged": Level.OK}
    assert levels(with_field(sealed(), "tier", "x"), expected=False)["manifest_forged"] is Level.CRITICAL


def test_without_any_key_nothing_is_said() -> None:
    assert signed("primary:daily/b", seen(MANIFEST), [], expected=True) == []


def test_a_key_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="the key has 15 bytes, and 16 are the least"):
        sign(b"k" * 15, MANIFEST)


def linked(number: int) -> list[Link]:
    links: list[Link] = []
    for day in range(number):
        previous = Previous(links[-1].id, links[-1].sha256) if links else None
        links.append(Link(f"202611{day + 1:02}T020000Z", f"{day:064x}", previous))
    return links


def torn(links: list[Link], removed: set[str] | None = None) -> dict[str, str]:
    found = chain("daily", links, removed or set())
    assert [one.subject for one in found] == [f"daily/{one.id}" for one in sorted(links, key=lambda one: one.id)]
    return {one.subject.partition("/")[2]: one.why for one in found if one.level}


LINKS = linked(12)
IDS = [one.id for one in LINKS]


@given(st.permutations(LINKS), st.sets(st.sampled_from(IDS)))
def test_a_chain_from_which_only_we_removed_is_whole(links: list[Link], removed: set[str]) -> None:
    assert torn([one for one in links if one.id not in removed], removed) == {}


@given(st.sets(st.sampled_from(IDS)), st.sets(st.sampled_from(IDS)))
def test_every_removal_that_is_not_ours_tears_the_chain_behind_it(ours: set[str], theirs: set[str]) -> None:
    left = [one for one in LINKS if one.id not in ours | theirs]
    expected = {
        one.id: f"the backup before it, {one.previous.id}, is gone, and we have not removed it"
        for one in left
        if one.previous and one.previous.id in theirs - ours
    }
    assert torn(left, ours) == expected


@given(st.integers(0, 10))
def test_a_manifest_that_was_exchanged_is_found_by_the_one_after_it(at: int) -> None:
    links = [*LINKS[:at], Link(LINKS[at].id, "f" * 64, LINKS[at].previous), *LINKS[at + 1 :]]
    assert torn(links) == {IDS[at]: f"its manifest is not the one that was there when {IDS[at + 1]} was published"}


def test_a_manifest_that_was_slipped_in_is_found() -> None:
    previous = Previous(LINKS[3].id, LINKS[3].sha256)
    slipped = Link("20261104T120000Z", "e" * 64, previous)
    why = "claims to be older than 20261105T020000Z, but was not there when that was published"
    assert torn([*LINKS, slipped]) == {slipped.id: why}
    first = Link("20261104T120000Z", "e" * 64, None)
    assert set(torn([*LINKS, first])) == {first.id}


def test_a_manifest_that_claims_to_be_the_first_of_several_tears_the_chain() -> None:
    links = [*LINKS[:5], Link(IDS[5], LINKS[5].sha256, None), *LINKS[6:]]
    assert torn(links) == {IDS[5]: "says that no backup of daily was before it, and there are some"}


def test_manifests_from_before_there_was_a_chain_tear_nothing() -> None:
    older = [Link(f"202610{day:02}T020000Z", f"{day:064x}") for day in range(1, 5)]
    first = Link(LINKS[0].id, LINKS[0].sha256, Previous(older[-1].id, older[-1].sha256))
    assert torn([*older, first, *LINKS[1:]]) == {}


def test_backups_that_were_made_after_the_clock_went_back_tear_nothing() -> None:
    ahead = Link("20300101T020000Z", "a" * 64, Previous(IDS[4], LINKS[4].sha256))
    after = Link(IDS[5], "b" * 64, Previous(ahead.id, ahead.sha256))
    later = Link(IDS[6], "c" * 64, Previous(after.id, after.sha256))
    assert torn([*LINKS[:5], ahead, after, later]) == {}


def test_a_circle_comes_to_an_end() -> None:
    one = Link("20261101T020000Z", "1" * 64, Previous("20261102T020000Z", "2" * 64))
    other = Link("20261102T020000Z", "2" * 64, Previous("20261101T020000Z", "1" * 64))
    third = Link("20261103T020000Z", "3" * 64, Previous("20261031T020000Z", "0" * 64))
    assert "20261103T020000Z" in torn([one, other, third])
