"""The public keys of all nodes, by the id their signatures carry: a stranger is turned away before anything costly is done."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from licensing.envelope import Envelope, key_id, verify
from licensing.errors import LicenseError
from licensing.nodekey import node_id


class Stranger(LicenseError):
    """The signature names no node we know."""

    def __init__(self) -> None:
        super().__init__("UNKNOWN_NODE", "this node is not known here: activate it")


class KeyRing:
    """One entry for each node that ever activated: about 300 bytes, bounded by the seats the vendor has sold."""

    def __init__(self, raw_keys: list[bytes]) -> None:
        self._keys: dict[str, tuple[str, Ed25519PublicKey]] = {}
        for raw in raw_keys:
            self.add(raw)

    def add(self, raw: bytes) -> None:
        """A node whose activation is committed."""
        key = Ed25519PublicKey.from_public_bytes(raw)
        self._keys[key_id(key)] = node_id(raw), key

    def open(self, envelope: Envelope, payload_type: str) -> tuple[bytes, str]:
        """The verified payload and the id of the node that signed it. Raises Stranger, SignatureError, EnvelopeError.

        The key id chooses among thousands of keys; it is not believed, for the signature must hold under that key.
        """
        for signature in envelope.signatures[:1]:
            found = self._keys.get(signature.keyid)
            if found is not None:
                name, key = found
                payload, _ = verify(envelope, payload_type, {signature.keyid: key})
                return payload, name
        raise Stranger()

    def __len__(self) -> int:
        return len(self._keys)
