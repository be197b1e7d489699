"""What can be wrong with a licence, a key, or an answer of the vendor's server. Each says what to do."""


class LicenseError(Exception):
    """A file or an answer that is not accepted. `code` is for programs, the text for people; nothing has changed."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class EnvelopeError(LicenseError):
    """Not a well-formed envelope: size, armour, base64, JSON, duplicate keys. It was not looked at any further."""

    def __init__(self, text: str) -> None:
        super().__init__("malformed", text)


class SignatureError(LicenseError):
    """No trusted key has signed these bytes."""

    def __init__(self, text: str) -> None:
        super().__init__("signature", text)


class UpgradeRequired(LicenseError):
    """Signed and genuine, but it asks for what this version does not know (C1)."""

    def __init__(self, text: str) -> None:
        super().__init__("upgrade_required", text)
