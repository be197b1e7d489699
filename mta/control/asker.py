"""Who asks: the name of the user at the other end of the control socket, for verbs that write it down with what they do."""

import pwd
from contextvars import ContextVar

ASKER: ContextVar[str] = ContextVar("asker", default="")


def user_name(uid: int) -> str:
    """The user's name, or `uid 1000` where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
