"""A copy of a machine becomes a node of its own: another key, another seat, and the mail it has not reported yet (A2).

The vendor asks for it, signed, in an acknowledgement: of two machines with one identity, one goes on with it and one begins anew.
Killed at any step, this node either still has the old identity, and is asked again, or the new one without a seat, and takes one.
"""

import asyncio

from licensing.errors import LicenseError
from licensing.installation import Installation, forget_anchor
from licensing.nodekey import NodeKey
from licensing.reporter import carry_over


async def rekey(home: Installation) -> str:
    """Take a new identity; the new node id. Raises LicenseError where the key is not ours to replace, OSError.

    The seats go with the old key. What was acknowledged stays counted there; leases stay, too, for the twin has them as well.
    """
    if home.key.path is None:
        raise LicenseError(
            "rekey",
            "the vendor asks this copy of a server for an identity of its own, but its node key is a credential:"
            " give it another one (`LoadCredentialEncrypted=node.key`), or none",
        )
    books = home.books
    carry_over(books, 1, "")
    # The pool stays: without one, a start block would be free to use each time.
    books.activation_id, books.leases, books.activation_until = "", [], 0.0
    books.role = "primary"
    books.findings.pop("clone", None)
    await home.record("rekey")
    home.key = await asyncio.to_thread(_replace, home)
    return home.key.id


def _replace(home: Installation) -> NodeKey:
    assert home.key.path is not None
    forget_anchor(home.state_dir)
    for path in (home.state_dir / "activations").glob("*.json"):
        path.unlink(missing_ok=True)
    return NodeKey.replace(home.key.path)
