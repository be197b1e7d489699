"""Keys, certificates and users: each is loaded at start, and none may be read by others."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from mta.config.load import Settings, load
from mta.dkim.keys import generate
from mta.model.errors import ConfigError
from mta.policy.rules import ListenerTls

SERVER = '[server]\nhostname = "mta.example.com"\nspool_dir = "spool"\n'
LISTENER = SERVER + '[[listener]]\naddress = "127.0.0.1:2525"\n'
TLS = LISTENER + 'tls_cert = "cert.pem"\ntls_key = "key.pem"\n'
DKIM = SERVER + '[[dkim]]\ndomain = "example.com"\nselector = "s1"\nkey_file = "s1.pem"\n'
CHEAP = "scrypt$2$1$1$AAECAwQFBgcICQoLDA0ODw==$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def settings_of(directory: Path, text: str) -> Settings:
    path = directory / "sluice.toml"
    path.write_text(text)
    return load(path)


def mistakes(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings_of(directory, text)
    return [f"{problem.key}: {problem.text}" for problem in caught.value.problems]


def write_secret(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


def write_certificate(directory: Path, *, password: bytes = b"") -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mta.example.com")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    (directory / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    write_secret(directory / "key.pem", pem)


def test_a_listener_with_a_certificate_offers_starttls(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    (listener,) = settings_of(tmp_path, TLS).listeners
    assert listener.tls is ListenerTls.STARTTLS
    assert listener.tls_key == str(tmp_path / "key.pem")
    (listener,) = settings_of(tmp_path, TLS + 'tls = "none"').listeners
    assert listener.tls is ListenerTls.NONE


def test_the_key_of_another_certificate_is_a_mistake(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    other = (tmp_path / "cert.pem").read_bytes()
    write_certificate(tmp_path)
    (tmp_path / "cert.pem").write_bytes(other)
    (mistake,) = mistakes(tmp_path, TLS)
    assert "is not the key of" in mistake


def test_an_encrypted_key_is_a_mistake_and_asks_nobody_for_its_password(tmp_path: Path) -> None:
    write_certificate(tmp_path, password=b"secret")
    (mistake,) = mistakes(tmp_path, TLS)
    assert mistake.startswith("listener[1].tls_cert: ")
    assert "unencrypted key" in mistake


def test_certificate_files_that_are_missing_or_no_pem_are_mistakes(tmp_path: Path) -> None:
    assert [text.split(":")[0] for text in mistakes(tmp_path, TLS)] == [
        "listener[1].tls_cert",
        "listener[1].tls_key",
    ]
    write_certificate(tmp_path)
    (tmp_path / "cert.pem").write_text("no certificate")
    (mistake,) = mistakes(tmp_path, TLS)
    assert "do not load as a PEM certificate chain" in mistake


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_key_that_others_may_read_or_change_is_a_mistake(tmp_path: Path, mode: int) -> None:
    write_certificate(tmp_path)
    (tmp_path / "key.pem").chmod(mode)
    (mistake,) = mistakes(tmp_path, TLS)
    assert mistake.startswith("listener[1].tls_key: everybody on this machine may read or change")
    assert "chmod 600" in mistake


@pytest.mark.parametrize("algorithm", ["rsa", "ed25519"])
def test_a_dkim_key_is_read_and_never_shown(tmp_path: Path, algorithm: str) -> None:
    write_secret(tmp_path / "s1.pem", generate(algorithm))
    (rules,) = settings_of(tmp_path, DKIM).dkim
    assert (rules.domain, rules.selector) == ("example.com", "s1")
    assert rules.pem.startswith(b"-----BEGIN")
    assert "BEGIN" not in repr(rules)


def test_a_key_may_be_a_credential_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    write_secret(credentials / "dkim-s1", generate("ed25519"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    text = DKIM.replace('"s1.pem"', '"%d/dkim-s1"')
    assert settings_of(tmp_path, text).dkim[0].key_file == str(credentials / "dkim-s1")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert "LoadCredential=" in mistakes(tmp_path, text)[0]


def test_a_dkim_key_that_does_not_load_is_a_mistake(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in mistakes(tmp_path, DKIM)[0]
    write_secret(tmp_path / "s1.pem", b"no key")
    (mistake,) = mistakes(tmp_path, DKIM)
    assert mistake.startswith(f"dkim[1].key_file: {tmp_path / 's1.pem'}: ")


def test_one_domain_may_have_two_selectors_but_not_one_twice(tmp_path: Path) -> None:
    write_secret(tmp_path / "s1.pem", generate("ed25519"))
    second = DKIM.removeprefix(SERVER)
    assert len(settings_of(tmp_path, DKIM + second.replace('"s1"', '"s2"')).dkim) == 2
    assert mistakes(tmp_path, DKIM + second) == ["dkim[2]: has the domain and selector of dkim[1]"]


@pytest.mark.parametrize(
    ("identity", "is_fine"),
    [
        ("@example.com", True),
        ("news@mail.example.com", True),
        ("@notexample.com", False),
        ("example.com", False),
    ],
)
def test_an_identity_belongs_to_its_domain(tmp_path: Path, identity: str, is_fine: bool) -> None:
    write_secret(tmp_path / "s1.pem", generate("ed25519"))
    text = DKIM + f'identity = "{identity}"\n'
    if is_fine:
        assert settings_of(tmp_path, text).dkim[0].identity == identity
    else:
        assert mistakes(tmp_path, text)[0].startswith("dkim[1].identity: must be an address at")


def test_users_are_read_with_their_hashes(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    write_secret(tmp_path / "users.toml", f'bob = "{CHEAP}"\n"al@x.example" = "{CHEAP}"\n'.encode())
    (listener,) = settings_of(tmp_path, TLS + 'auth_users = "users.toml"').listeners
    assert listener.users == {"bob": CHEAP, "al@x.example": CHEAP}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'bob = "secret"', "user 'bob': is no hash of the form"),
        (b"bob = 3", "user 'bob': is no hash"),
        (b"", "names no user"),
        (b"bob", "is no valid TOML"),
        (b"\xff", "is no valid TOML"),
    ],
)
def test_a_users_file_with_a_mistake_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    write_certificate(tmp_path)
    write_secret(tmp_path / "users.toml", content)
    (mistake,) = mistakes(tmp_path, TLS + 'auth_users = "users.toml"')
    assert words in mistake
    assert "secret" not in mistake


def test_users_without_tls_could_never_log_in(tmp_path: Path) -> None:
    write_secret(tmp_path / "users.toml", f'bob = "{CHEAP}"'.encode())
    (mistake,) = mistakes(tmp_path, LISTENER + 'auth_users = "users.toml"')
    assert "AUTH is offered under TLS only" in mistake


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "holds no PEM certificates"),
        ("-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n", "holds no PEM"),
    ],
)
def test_authorities_of_clients_must_load(tmp_path: Path, content: str | None, words: str) -> None:
    write_certificate(tmp_path)
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    (mistake,) = mistakes(tmp_path, TLS + 'tls_client_ca = "ca.pem"\n')
    assert mistake.startswith("listener[1].tls_client_ca: ")
    assert words in mistake
