"""All secrets of a configuration, and the texts that must therefore never be printed."""

import os
import re
from collections.abc import Iterator, Mapping

from agent.errors import BadConfig
from agent.settings.keys import leaves
from agent.settings.secret import Secret, look_up
from agent.settings.shape import Settings

_SHORTEST = 4
_SHORTEST_IN_URL = 6
_TELLING = r"(?i)key|token|secret|pass|pwd|auth|cred"
_HOST = r"localhost|[0-9.]+|\[.*\]|([A-Za-z0-9_-]+\.)+[A-Za-z]{2,}"
# Services whose address begins with a host; with the others, the same place may hold a token.
_HOSTED = frozenset(("http", "https", "json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos"))
# Words that many addresses share: hiding them would make logs unreadable and protect nothing.
_PUBLIC = frozenset(
    (
        *("alerts", "backup", "backups", "channel", "channels", "incoming", "message", "messages", "monitoring"),
        *("notification", "notifications", "notify", "postmaster", "qdrant", "services", "snapward"),
        *("webhook", "webhooks", "workflow", "workflows"),
    )
)


def secrets_in(settings: Settings) -> Iterator[tuple[str, Secret]]:
    """Yield every secret with its dotted key."""
    return ((key, value) for key, _, value in leaves(settings) if isinstance(value, Secret))


def secrets_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the texts that must not appear in a log, longest first; what cannot be read now is left out.

    Of a URL these are the whole, and its user, password, path and telling parameters of 6 and more characters,
    decoded and encoded. Host names and words that many addresses share are not among them, nor is a value of
    engine.env that is written openly under a name that does not sound like a secret.
    """
    found: set[str] = set()
    for key, secret in secrets_in(settings):
        for reference in secret.references:
            try:
                found.update(_forms(look_up(reference, environ), _SHORTEST))
            except BadConfig:
                continue
        try:
            value = secret.reveal(environ)
        except BadConfig:
            continue
        if secret.references or not _harmless(key, value):
            found.add(value)
            found.update(_forms(value, _SHORTEST))
            for part in _parts(value):
                found.update(_forms(part, _SHORTEST_IN_URL))
    return sorted(found, key=lambda text: (-len(text), text))


def in_the_clear(settings: Settings) -> list[str]:
    """Return the dotted keys whose secret stands in the file itself."""
    return [
        key for key, secret in secrets_in(settings) if not secret.references and not _harmless(key, secret.reveal({}))
    ]


def _harmless(key: str, value: str) -> bool:
    if key.startswith("engine.env."):
        return not re.search(_TELLING, key.removeprefix("engine.env."))
    return "://" in value and "@" not in value and not any(_parts(value))


def _parts(url: str) -> Iterator[str]:
    """Yield what may be secret in a URL: by hand, since a token in it may be no valid host or port."""
    scheme, found, rest = url.partition("://")
    if not found:
        return
    rest, _, query = rest.partition("#")[0].partition("?")
    authority, _, path = rest.partition("/")
    login, _, host = authority.rpartition("@")
    user, _, password = login.partition(":")
    if password:
        yield password
    name, _, port = host.rpartition(":")
    bare = name if port.isdigit() else host
    words = [user, *path.split("/")]
    if scheme.lower() not in _HOSTED and not re.fullmatch(_HOST, bare):
        words += [host, *host.split(":")]
    pairs = [pair.partition("=") for pair in query.split("&")]
    words += [value for name, _, value in pairs if re.search(_TELLING, name) or name.startswith(("+", "-"))]
    yield from (word for word in words if len(word) >= _SHORTEST_IN_URL and word.lower() not in _PUBLIC)


def _forms(text: str, shortest: int) -> Iterator[str]:
    from urllib.parse import quote, unquote  # noqa: PLC0415 - only a log filter needs it

    decoded = unquote(text)
    if len(decoded) >= shortest and decoded.lower() not in _PUBLIC:
        yield from (text, decoded, quote(decoded, safe=""))
