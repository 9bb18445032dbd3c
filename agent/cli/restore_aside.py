"""The backup of what a restore is about to replace."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from agent.adapters import pages
from agent.adapters.qdrant.address import Address
from agent.cli import parts, text
from agent.cli.board import Board
from agent.errors import AgentError, Refused
from agent.jobs.backup import leftovers, take
from agent.jobs.backup.journal import Journal
from agent.jobs.backup.remote import Remote
from agent.rules.names import exactly
from agent.rules.recovery.choice import SET_ASIDE
from agent.settings import Settings
from agent.settings.parts import order


def put_aside(
    settings: Settings,
    addresses: Sequence[Address],
    names: Sequence[str],
    stopping: Callable[[], bool],
    *,
    force: bool,
) -> str | None:
    """Back up collections of the server that is restored to; returns the backup's id.

    Args:
        settings: all of them.
        addresses: of that server.
        names: of the collections.
        stopping: whether nobody waits for it any more.
        force: whether to go on without; then None where there is none.

    Raises:
        Refused: it could not be made whole.
    """
    patterns = tuple(exactly(one) for one in names)
    # What is given up is kept whatever the configuration leaves out of backups.
    wanted = replace(order(settings, SET_ASIDE, patterns), exclude=(), config_files=())
    for folder in take.clean_leftovers(wanted.locations):
        text.note(f"removed what a backup that died had left: {folder}")
    journal, board = Journal(settings.state_dir), Board()
    engine = Remote(addresses, journal, settings.engine.deadline, (), patterns, text.note)
    taken, why = None, ""
    try:
        with parts.writer(settings) as db:
            book = parts.book(db, settings, "what a restore is about to replace", parts.who(scheduled=False))
            taken = take.take(
                engine, wanted, parts.now, pages.restore_notes, book=book, stopping=stopping, progress=board
            )
        why = "; ".join(f"{one.name}: {one.why}" for one in taken.manifest.failed)
    except AgentError as error:
        if stopping():
            raise
        why = error.message
    finally:
        board.end()
        for words in leftovers.clear([replace(one, patience=parts.PATIENCE) for one in addresses], journal):
            text.note(words)
    if why and not force:
        raise Refused(
            f"what is there could not be backed up before it is replaced: {why}",
            "Nothing was changed. Restore beside it with --as, or without such a backup with --force.",
        )
    if why:
        text.note(f"what is replaced is not backed up whole: {why}")
    return taken.id if taken else None
