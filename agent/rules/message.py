"""One message in the forms that targets take: mail shows the HTML, chats the short form, terminals the text."""

from msgspec import Struct

from agent.rules.finding import Level


class Message(Struct, frozen=True):
    """`title` is one line; `chat` at most 900 characters; `html` is empty where there is none."""

    title: str
    text: str
    chat: str
    html: str = ""
    level: Level = Level.OK
    attachments: tuple[str, ...] = ()
