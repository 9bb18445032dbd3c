"""Sign manifests, and chain each to the one before it: who changes, adds or removes one has to change them all.

The signature is an HMAC with SHA-256 over the SHA-256 of the manifest without it. The key is kept off the volume of
the backups: who can write there and does not have the key cannot forge a manifest. Who has both can.
"""

import hmac
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from agent.rules.finding import Finding, Level, ok

FIELD = "signature"  # of the manifest
LEAST_KEY = 16  # bytes
_METHOD = "hmac-sha256"
_UNSIGNED = "it carries no signature"


class Previous(Struct, frozen=True):
    """What a manifest says of the one before it in its tier, as it was when this one was published."""

    id: str
    sha256: str


class Seen(Struct, frozen=True):
    """What is needed of a manifest to check its signature: the SHA-256 of its canonical form, and the signature."""

    digest: str
    signature: str = ""


class Link(Struct, frozen=True):
    """One manifest of a tier: its backup's id, the SHA-256 of its file as it is now, and what it says of the last."""

    id: str
    sha256: str
    previous: Previous | None = None


def canonical(manifest: bytes) -> bytes:
    """What is signed: the manifest without its signature, fields in order, without any space between them.

    Fields that this version does not know are part of it.

    Raises:
        ValueError: it is no JSON object; the message says where.
    """
    return _split(manifest)[0]


def sign(key: bytes, manifest: bytes) -> str:
    """The text to put into a manifest's field `signature`: the method, which key it was, and the signature.

    Raises:
        ValueError: the manifest is no JSON object, or the key is shorter than `LEAST_KEY` bytes.
    """
    if len(key) < LEAST_KEY:
        raise ValueError(f"the key has {len(key)} bytes, and {LEAST_KEY} are the least")
    return _signature(key, seen(manifest).digest)


def seen(manifest: bytes) -> Seen:
    """What is needed of a manifest to check its signature.

    Raises:
        ValueError: it is no JSON object; the message says where.
    """
    document, signature = _split(manifest)
    return Seen(sha256(document).hexdigest(), signature)


def check(keys: Sequence[bytes], manifest: bytes) -> str:
    """Why a manifest's signature is not to be trusted, or an empty text.

    `keys` are the present one and those that were used before it.
    """
    try:
        return judge(keys, seen(manifest))
    except ValueError as error:
        return str(error)


def judge(keys: Sequence[bytes], manifest: Seen) -> str:
    """Why the signature of a manifest that was seen is not to be trusted, or an empty text."""
    signature = manifest.signature
    if not signature:
        return _UNSIGNED
    method, _, rest = signature.partition(":")
    name, _, _ = rest.partition(":")
    if method != _METHOD:
        return f"its signature is of a kind that is not known: {method[:20]!r}"
    key = next((one for one in keys if _name(one) == name), None)
    if key is None:
        return f"it was signed with another key: {name[:20]!r}"
    if not hmac.compare_digest(signature.encode(), _signature(key, manifest.digest).encode()):
        return "its signature does not match: it was changed after it was signed"
    return ""


def signed(subject: str, manifest: Seen, keys: Sequence[bytes], *, expected: bool) -> list[Finding]:
    """The findings `manifest_unsigned` and `manifest_forged` about a manifest; none where there is no key.

    `expected` is whether it should carry a signature: not when it was published before there was a key.
    """
    if not keys:
        return []
    why = judge(keys, manifest)
    said, unsigned = f"manifest.json: {why}", why == _UNSIGNED
    hint = (
        "Do not restore from it. Compare it with the other location's, and find out who can write there."
        " If that was you, `snapward reconcile` accepts it."
    )
    return [
        Finding("manifest_unsigned", subject, Level.CRITICAL, said, hint)
        if unsigned and expected
        else ok("manifest_unsigned", subject),
        Finding("manifest_forged", subject, Level.CRITICAL, said, hint)
        if why and not unsigned
        else ok("manifest_forged", subject),
    ]


def chain(tier: str, links: Sequence[Link], removed: Collection[str]) -> list[Finding]:
    """The finding `chain_broken` about each manifest of a tier, the oldest first; its subject is `tier/id`.

    Args:
        tier: its name.
        links: all manifests of the tier that are known, of all locations, each once, in any order.
        removed: ids of backups that were there, and that we took away ourselves.
    """
    ordered = sorted(links, key=lambda one: one.id)
    known = {one.id: one for one in ordered}
    broken: dict[str, str] = {}
    chained = False
    for index, link in enumerate(ordered):
        if link.previous is not None:
            broken |= _torn(link, link.previous, ordered[:index], known, removed)
        elif chained:
            broken[link.id] = f"says that no backup of {tier} was before it, and there are some"
        chained = chained or link.previous is not None
    return [_finding(f"{tier}/{one.id}", broken.get(one.id, "")) for one in ordered]


def _torn(
    link: Link, previous: Previous, older: Sequence[Link], known: Mapping[str, Link], removed: Collection[str]
) -> dict[str, str]:
    """Where the chain is torn right before a manifest: ids and why."""
    # Where the clock went back, what was published later has the older id.
    between = [one.id for one in older if one.id > previous.id and not _follows(one, link.id, known)]
    torn = dict.fromkeys(between, f"claims to be older than {link.id}, but was not there when that was published")
    before = known.get(previous.id)
    if before is None and previous.id not in removed:
        torn[link.id] = f"the backup before it, {previous.id}, is gone, and we have not removed it"
    if before is not None and before.sha256 != previous.sha256:
        torn[before.id] = f"its manifest is not the one that was there when {link.id} was published"
    return torn


def _follows(link: Link, ancestor: str, known: Mapping[str, Link]) -> bool:
    """Whether one manifest was published after another, going by the chain."""
    passed: set[str] = set()
    at: Link | None = link
    while at is not None and at.id not in passed:
        passed.add(at.id)
        if at.previous is not None and at.previous.id == ancestor:
            return True
        at = known.get(at.previous.id) if at.previous is not None else None
    return False


def _finding(subject: str, why: str) -> Finding:
    if not why:
        return ok("chain_broken", subject, "linked to the backups beside it")
    hint = (
        "Find out who can write there. `snapward verify` compares its archives with what was recorded of them."
        " If that was you, `snapward reconcile` accepts it."
    )
    return Finding("chain_broken", subject, Level.CRITICAL, why, hint)


def _split(manifest: bytes) -> tuple[bytes, str]:
    """What is signed of a manifest, and the signature; empty if there is none."""
    try:
        document = msgspec.json.decode(manifest)
        if not isinstance(document, dict):
            raise ValueError("manifest.json is no object")  # noqa: TRY004 - the file is wrong, not the call
        signature = document.pop(FIELD, None)
        return msgspec.json.encode(document, order="sorted"), "" if signature is None else str(signature)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"manifest.json cannot be read: {error}") from error


def _signature(key: bytes, digest: str) -> str:
    return f"{_METHOD}:{_name(key)}:{hmac.digest(key, bytes.fromhex(digest), sha256).hex()}"


def _name(key: bytes) -> str:
    """What tells one key from another, and gives neither away."""
    return sha256(b"snapward key " + key).hexdigest()[:8]
