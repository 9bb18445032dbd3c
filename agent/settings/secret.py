"""Values that must not be seen: `${env:NAME}`, `${file:PATH}` and `${credential:NAME}`, read when used."""

import os
import re
import stat
from collections.abc import Iterator, Mapping

from agent.errors import BadConfig
from agent.settings.units import TEXT, Unit, plain

_TOKEN = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LARGEST = 65_536
WAYS = "${env:NAME}, ${file:/path} or ${credential:NAME}"


class Secret:
    """A text that may hold references to what is kept elsewhere; printing it shows none of it.

    `$${` stands for a `${` that is meant literally.

    Raises:
        ValueError: a reference is not well formed.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        for reference in _references(text):
            _check(reference)
        if "${" in _TOKEN.sub(" ", text):
            raise ValueError(f"a reference is not closed; it is written {WAYS}, and $${{ where ${{ is no reference")
        self._text = text

    @property
    def references(self) -> tuple[str, ...]:
        """What it refers to, such as `env:TOKEN`."""
        return tuple(_references(self._text))

    @property
    def scheme(self) -> str:
        """The part of a URL that says which service it is for, with `://`; empty when it is not written openly."""
        found = _SCHEME.match(self._text)
        return found[0] if found else ""

    def reveal(self, environ: Mapping[str, str] = os.environ) -> str:
        """Return the value itself, reading what it refers to.

        Raises:
            BadConfig: a reference leads nowhere; the message names it.
        """
        return _TOKEN.sub(lambda found: "${" if found[1] is None else look_up(found[1], environ), self._text)

    def __str__(self) -> str:
        return self._text if self.references and not _TOKEN.sub("", self._text) else "***"

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def masked_url(secret: Secret) -> str:
    """Return a URL with only its scheme to be read, `slack://***`."""
    return f"{secret.scheme}***" if secret.scheme else str(secret)


def look_up(reference: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return what a reference such as `env:TOKEN` leads to, without one newline at a file's end.

    Raises:
        BadConfig: it leads nowhere, or to nothing.
    """
    way, _, name = reference.partition(":")
    if way == "env":
        value = environ.get(name)
        if value is None:
            raise _dead(reference, "is not set in the environment", f"set {name} where snapward is started")
    elif way == "file":
        value = _content(reference, name, "create the file, readable by the user that snapward runs as")
    else:
        folder = environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise _dead(
                reference,
                "needs $CREDENTIALS_DIRECTORY, which systemd sets",
                f"start it as a service with LoadCredential={name}:/path, or use ${{file:/path}}",
            )
        value = _content(reference, os.path.join(folder, name), f"add LoadCredential={name}:/path to the unit")
    if not value:
        raise _dead(reference, "is empty", "put the secret there")
    return value


def _references(text: str) -> Iterator[str]:
    return (found[1] for found in _TOKEN.finditer(text) if found[1] is not None)


def _check(reference: str) -> None:
    way, _, name = reference.partition(":")
    if way not in {"env", "file", "credential"} or not name:
        raise ValueError(f"a reference is written {WAYS}; write $${{ for a ${{ that is none")
    if way == "file" and not name.startswith("/"):
        raise ValueError(f"${{{reference}}} needs the whole path, from / on")
    if way == "env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"${{{reference}}} does not name an environment variable")
    if way == "credential" and not re.fullmatch(r"(?!\.\.?$)[\w.-]+", name, re.ASCII):
        raise ValueError(f"${{{reference}}} does not name a credential; its name is a plain file name")


def _content(reference: str, path: str, hint: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="", opener=_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _dead(reference, f"{path} is not a plain file", hint)
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise _dead(reference, f"{path}: {error.strerror}", hint) from None
    except ValueError:
        raise _dead(reference, f"{path} is not text in UTF-8", hint) from None
    if len(text) > _LARGEST:
        raise _dead(reference, f"{path} is larger than {_LARGEST} bytes", "a secret is one line of text")
    return text.removesuffix("\n").removesuffix("\r")


def _at_once(path: str, flags: int) -> int:
    """Open without waiting: a named pipe would hang whoever asks for the secret."""
    return os.open(path, flags | os.O_NONBLOCK)


def _dead(reference: str, why: str, hint: str) -> BadConfig:
    return BadConfig(f"${{{reference}}} cannot be read: {why}", hint)


def _read(text: str) -> Secret:
    return Secret(plain(text))


def _read_url(text: str) -> Secret:
    secret = _read(text)
    if not secret.scheme and not text.startswith("${"):
        raise ValueError("is not a URL as apprise knows them; write something like mailtos://user:password@host")
    return secret


SECRET = Unit("text", f"write {WAYS}", _read, str, TEXT.schema, open=False)
SECRET_URL = Unit(
    "a URL",
    f"write a URL as apprise knows them, or {WAYS}",
    _read_url,
    masked_url,
    {"type": "string", "pattern": r"^(\$\{|[A-Za-z][A-Za-z0-9+.-]*://)"},
    open=False,
)
