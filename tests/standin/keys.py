"""Who may do what: the full key, the read-only key, and keys for some collections."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from standin.answers import Answer, Refused, plain


class Access(Struct, frozen=True):
    """What a key allows; `collections` is None where it is not limited to some."""

    write: bool = True
    collections: frozenset[str] | None = None

    @property
    def manages(self) -> bool:
        return self.write and self.collections is None

    def sees(self, collection: str) -> bool:
        return self.collections is None or collection in self.collections

    def require(self, need: str, collection: str) -> None:
        """Refuse unless allowed; `need` is "read", "write", "manage" or "global" (read)."""
        if self.collections is not None:
            if need in {"manage", "global"}:
                raise Refused(403, "Forbidden: Global access is required")
            if collection and collection not in self.collections:
                raise Refused(403, f"Forbidden: Access to collection {collection} is required")
        elif need in {"write", "manage"} and not self.write:
            raise Refused(403, "Forbidden: Global manage access is required")


class Keys(Struct, frozen=True):
    """The keys that a server knows; without an `api_key` everybody may do everything."""

    api_key: str | None = None
    read_only_key: str | None = None
    collection_keys: Mapping[str, Sequence[str]] = {}

    def access(self, headers: Mapping[str, str]) -> Access | Answer:
        """What the request may do, or the answer that refuses it."""
        if not (self.api_key or self.read_only_key or self.collection_keys):
            return Access()
        bearer = headers.get("authorization", "")
        given = headers.get("api-key") or (bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else None)
        if given is None:
            return plain(401, "Must provide an API key or an Authorization bearer token", {})
        if given == self.api_key:
            return Access()
        if given == self.read_only_key:
            return Access(write=False)
        if given in self.collection_keys:
            return Access(collections=frozenset(self.collection_keys[given]))
        return plain(401, "Invalid API key or JWT", {})
