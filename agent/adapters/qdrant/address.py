"""Where a server is; apart from what speaks to it, which is dear to load."""

from typing import Any

from msgspec import Struct, structs


class Address(Struct, frozen=True):
    """Where a server is and how it is spoken to. Printed, it keeps its key to itself.

    Attributes:
        url: as configured, without a trailing slash.
        key: API key or JWT; empty where the server asks for none.
        patience: seconds for which a question that fails for a passing reason is asked again.
        silence: seconds that the server may say nothing in the middle of an answer.
        ca_file: certificates that its own is checked against, PEM; None for the system's.
    """

    url: str
    key: str = ""
    patience: float = 120.0
    silence: float = 60.0
    ca_file: str | None = None

    def __repr__(self) -> str:
        return f"Address({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = structs.replace(self, key="***") if self.key else self
        return [(name, getattr(shown, name)) for name in self.__struct_fields__]
