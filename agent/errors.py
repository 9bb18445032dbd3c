"""The few kinds of trouble, split by what the caller does about them.

    AgentError          told to the person, ends the command with its exit code
    ├── BadConfig  65   the configuration has to be mended first
    ├── BadUsage   64   the command line does not say what can be done
    ├── Refused     2   done nothing on purpose, and says why
    ├── Unreachable 69  the server does not answer
    ├── CannotWrite 73  no space, read-only, or no such place
    ├── NoRights    77  the system or the server forbids it
    ├── Damaged     2   stored state cannot be trusted and has to be rebuilt
    └── TryLater    75  locked, busy or gone for the moment: the same call may succeed later

Anything else is a mistake in the program: it stays what it is, and the command ends with 70.
"""

# sysexits' EX_SOFTWARE: a mistake of ours, never to be mistaken for a warning.
FAULT = 70


class AgentError(Exception):
    """Trouble that is told to a person: what happened, and in `hint` what to do about it."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadUsage(AgentError):
    """The command line asks for something that does not exist."""

    exit_code = 64


class BadConfig(AgentError):
    """The configuration cannot be used; every mistake found is in the message, one a line."""

    exit_code = 65


class Refused(AgentError):
    """Nothing was done, on purpose."""

    exit_code = 2


class Damaged(AgentError):
    """What was stored cannot be trusted any more and has to be set aside and rebuilt."""

    exit_code = 2


class Unreachable(AgentError):
    """The server, or the engine's data, cannot be reached."""

    exit_code = 69


class CannotWrite(AgentError):
    """A place that must take data does not: full, read-only, missing."""

    exit_code = 73


class TryLater(AgentError):
    """Something else holds what is needed; the same call may succeed later."""

    exit_code = 75


class NoRights(AgentError):
    """Permission is missing."""

    exit_code = 77
