"""Licences are opened with the roots, keys and windows of a vendor in memory; every refusal names its code."""

import base64
import json
from datetime import timedelta
from functools import reduce
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from licensing.envelope import Envelope, decode_envelope, encode_envelope, key_id, sign
from licensing.errors import LicenseError, SignatureError, UpgradeRequired
from licensing.model.fields import DELEGATION, LICENSE, REWIND_GRANT, ROOT, USAGE_ACK
from licensing.model.license import Kind
from licensing.trust import MAX_ROOTS, Trust
from tests.support.vendor import BORN, ISSUED, Vendor, public


def _code(trust: Trust, envelope: Envelope) -> str:
    with pytest.raises(LicenseError) as caught:
        trust.open_license(envelope)
    return caught.value.code


@pytest.mark.parametrize("kind", Kind)
def test_a_licence_of_each_kind_is_opened(kind: Kind) -> None:
    vendor = Vendor()
    envelope = vendor.issue(kind)
    found, opened = vendor.trust.open_license(envelope)
    assert found.kind is kind
    assert opened.sha256 == envelope.payload_sha256()
    assert opened.key_id == vendor.key_id("license-signing")
    assert opened.issued_at == ISSUED.timestamp()
    assert opened.production


def test_another_vendor_s_licence_is_refused() -> None:
    with pytest.raises(SignatureError):
        Vendor().trust.open_license(Vendor().issue(Kind.VOLUME))


def test_a_licence_without_a_delegation_is_refused() -> None:
    vendor = Vendor()
    bare = msgspec.structs.replace(vendor.issue(Kind.VOLUME), delegation=None)
    with pytest.raises(SignatureError, match="by which delegation"):
        vendor.trust.open_license(bare)


# -- what this build's root allows --------------------------------------------------------------------


def test_the_root_in_the_repository_is_not_for_production() -> None:
    assert Trust.built_in().production is False
    assert Trust.built_in().root.threshold == 2


@pytest.mark.parametrize("kind", Kind)
def test_a_root_for_trials_opens_development_licences_only(kind: Kind) -> None:
    trials = Vendor(production=False)
    envelope = trials.issue(kind)
    if kind is Kind.DEVELOPMENT:
        assert not trials.trust.open_license(envelope)[1].production
    else:
        assert _code(trials.trust, envelope) == "not_production"


@pytest.mark.parametrize("kind", Kind)
def test_a_root_that_is_named_opens_development_licences_only(kind: Kind) -> None:
    vendor = Vendor()
    named = Trust.load(vendor.root_bytes, is_named=True)
    if kind is Kind.DEVELOPMENT:
        assert not named.open_license(vendor.issue(kind))[1].production
    else:
        assert _code(named, vendor.issue(kind)) == "not_production"


def test_an_activation_under_a_named_root_is_of_a_development_licence_only() -> None:
    vendor = Vendor()
    named = Trust.load(vendor.root_bytes, is_named=True)
    envelope = vendor.sign(USAGE_ACK, _Plain(server_time=int(ISSUED.timestamp())))
    assert named.open(envelope, USAGE_ACK, kind=Kind.DEVELOPMENT).production is False
    with pytest.raises(LicenseError, match="Development licences only"):
        named.open(envelope, USAGE_ACK, kind=Kind.VOLUME)


def test_a_licence_of_another_kind_than_expected_is_refused() -> None:
    vendor = Vendor()
    with pytest.raises(LicenseError, match="stands where"):
        vendor.trust.open(vendor.issue(Kind.VOLUME), LICENSE, kind=Kind.DEVELOPMENT)


# -- delegations --------------------------------------------------------------------------------------


class _Plain(msgspec.Struct, omit_defaults=True):
    server_time: int | None = None


def test_an_online_key_cannot_sign_licences_whatever_its_delegation_says() -> None:
    vendor = Vendor()
    vendor.delegate("server-online", payload_types=(LICENSE,), kinds=tuple(Kind))
    forged = vendor.sign(LICENSE, vendor.license(Kind.VOLUME), role="server-online")
    assert _code(vendor.trust, forged) == "scope"


def test_a_key_signs_only_the_kinds_it_was_given() -> None:
    vendor = Vendor()
    vendor.delegate("license-signing", kinds=(Kind.DEVELOPMENT,))
    assert vendor.trust.open_license(vendor.issue(Kind.DEVELOPMENT))
    assert _code(vendor.trust, vendor.issue(Kind.ENTERPRISE_SERVER)) == "scope"


def test_a_key_signs_only_the_statements_it_was_given() -> None:
    vendor = Vendor()
    vendor.delegate("server-online", payload_types=(USAGE_ACK,))
    statement = _Plain(server_time=int(ISSUED.timestamp()))
    assert vendor.trust.open(vendor.sign(USAGE_ACK, statement), USAGE_ACK)
    with pytest.raises(LicenseError, match="may not sign"):
        vendor.trust.open(vendor.sign(REWIND_GRANT, statement), REWIND_GRANT)


def test_a_statement_that_does_not_say_when_is_refused() -> None:
    vendor = Vendor()
    with pytest.raises(LicenseError, match="when it was issued"):
        vendor.trust.open(vendor.sign(USAGE_ACK, _Plain()), USAGE_ACK)


def test_a_key_is_believed_in_its_window_to_the_second() -> None:
    vendor = Vendor()
    second = timedelta(seconds=1)
    vendor.delegate("license-signing", not_before=ISSUED, not_after=ISSUED + 2 * second)
    for moment, is_good in (
        (ISSUED - second, False),
        (ISSUED, True),
        (ISSUED + second, True),
        (ISSUED + 2 * second, False),
    ):
        envelope = vendor.issue(Kind.VOLUME, issued_at=moment)
        if is_good:
            assert vendor.trust.open_license(envelope)
        else:
            assert _code(vendor.trust, envelope) == "window"


def test_a_delegation_needs_two_root_keys() -> None:
    vendor = Vendor()
    good = vendor.delegations["license-signing"]
    for count in (1, 2):
        vendor.delegations["license-signing"] = sign(
            DELEGATION, good.payload_bytes(), vendor.root_keys[:count]
        )
        envelope = vendor.issue(Kind.VOLUME)
        if count == 2:
            assert vendor.trust.open_license(envelope)
        else:
            assert _code(vendor.trust, envelope) == "signature"


# -- rotation -----------------------------------------------------------------------------------------


def test_old_licences_stay_good_after_a_planned_rotation_and_new_ones_bring_the_new_root() -> None:
    vendor = Vendor()
    old_trust, old = vendor.trust, vendor.issue(Kind.VOLUME)
    vendor.rotate(new_keys=True)
    vendor.delegate("license-signing")
    new = vendor.issue(Kind.VOLUME, issued_at=vendor.root.issued_at)
    assert _code(old_trust, new) == "signature"  # it knows only the keys of root 1
    with_root = msgspec.structs.replace(new, roots=(vendor.roots[1],))
    assert old_trust.open_license(with_root)
    advanced = old_trust.advance(with_root.roots)
    assert advanced.root.version == 2
    assert advanced.open_license(old) and advanced.open_license(new)
    assert vendor.trust.open_license(old)  # a build with root 2 holds root 1 too
    assert Trust.load(advanced.dump()).root == advanced.root
    assert advanced.roots_after(1) == (vendor.roots[1],)


def test_a_root_is_refused_that_the_one_before_did_not_sign() -> None:
    vendor, thief = Vendor(), Vendor()
    thief.rotate(new_keys=True)
    with pytest.raises(SignatureError):
        vendor.trust.advance(thief.roots)
    with pytest.raises(SignatureError):
        vendor.trust.advance(thief.roots[1:])
    assert vendor.trust.root.version == 1


def test_a_root_is_refused_that_its_own_keys_did_not_sign() -> None:
    vendor = Vendor()
    vendor.rotate(new_keys=True)
    half = sign(ROOT, vendor.roots[1].payload_bytes(), [*vendor.root_keys[:1], vendor.root_keys[0]])
    with pytest.raises(SignatureError):
        Trust.load(Vendor().root_bytes).advance([half])


def test_a_root_that_skips_one_is_refused() -> None:
    vendor = Vendor()
    trust = vendor.trust
    vendor.rotate()
    vendor.rotate()
    with pytest.raises(LicenseError, match="missing"):
        trust.advance(vendor.roots[2:])
    assert trust.advance(vendor.roots).root.version == 3


def test_a_root_for_trials_never_becomes_one_for_production() -> None:
    trials = Vendor(production=False)
    trust = trials.trust
    trials.rotate(production=True)
    with pytest.raises(LicenseError, match="does not become production"):
        trust.advance(trials.roots)


def test_more_roots_than_can_be_are_not_looked_at() -> None:
    vendor = Vendor()
    with pytest.raises(LicenseError, match="at most"):
        vendor.trust.advance(vendor.roots * (MAX_ROOTS + 1))


def test_a_root_that_has_a_successor_vouches_for_nothing_new() -> None:
    vendor = Vendor()
    first_root_keys = vendor.root_keys
    vendor.rotate(new_keys=True)
    vendor.root_keys = first_root_keys
    vendor.delegate("license-signing", issued_at=vendor.root.issued_at + timedelta(days=1))
    assert _code(vendor.trust, vendor.issue(Kind.VOLUME)) == "signature"


def test_a_threshold_above_the_number_of_keys_is_refused() -> None:
    vendor = Vendor()
    vendor.root = msgspec.structs.replace(vendor.root, keys=vendor.root.keys[:1] * 3)
    vendor.roots = [sign(ROOT, msgspec.json.encode(vendor.root), vendor.root_keys)]
    with pytest.raises(LicenseError, match="fewer keys than its threshold"):
        Trust.load(vendor.root_bytes)


def test_a_withdrawn_key_is_believed_for_what_it_signed_before() -> None:
    vendor = Vendor()
    vendor.rotate(revoked_after={vendor.key_id("license-signing"): ISSUED})
    before = vendor.issue(Kind.VOLUME, issued_at=ISSUED - timedelta(seconds=1))
    assert vendor.trust.open_license(before)
    assert _code(vendor.trust, vendor.issue(Kind.VOLUME)) == "revoked_key"


def test_a_stolen_root_key_counts_no_more() -> None:
    vendor = Vendor()
    envelope = vendor.issue(Kind.VOLUME)
    first, second, third = vendor.root_keys
    stolen = key_id(first.public_key())
    vendor.root_keys = [second, third, Ed25519PrivateKey.generate()]
    keys = tuple(map(public, vendor.root_keys))
    genuine = vendor.issue(Kind.VOLUME)
    vendor.rotate(keys=keys, compromised=(stolen,), known_good=(genuine.payload_sha256(),))
    assert vendor.trust.is_compromised(stolen)
    # One of the two names on its delegation is worth nothing: only what the log knows is believed.
    assert _code(vendor.trust, envelope) == "compromised_key"
    assert vendor.trust.open_license(genuine)
    vendor.delegate("license-signing")
    assert vendor.trust.open_license(vendor.issue(Kind.VOLUME, issued_at=vendor.root.issued_at))


def test_a_delegation_is_of_the_term_of_the_root_that_signed_it() -> None:
    vendor = Vendor()
    for moment in (BORN - timedelta(seconds=1), vendor.root.expires_at + timedelta(seconds=1)):
        vendor.delegate("license-signing", issued_at=moment)
        assert _code(vendor.trust, vendor.issue(Kind.VOLUME)) == "signature"


# -- what we are too old for --------------------------------------------------------------------------


def test_a_feature_that_must_be_understood_and_is_not_asks_for_an_upgrade() -> None:
    vendor = Vendor()
    with pytest.raises(UpgradeRequired, match="teleport"):
        vendor.trust.open_license(vendor.issue(Kind.VOLUME, crit=("volume.lease", "teleport")))


def test_a_field_we_do_not_know_is_left_alone() -> None:
    vendor = Vendor()
    later = {**msgspec.to_builtins(vendor.license(Kind.VOLUME)), "colour": "green"}
    envelope = sign(
        LICENSE,
        msgspec.json.encode(later),
        [vendor.keys["license-signing"]],
        delegation=vendor.delegations["license-signing"],
    )
    assert vendor.trust.open_license(envelope)[0].kind is Kind.VOLUME


# -- anything a stranger can send ---------------------------------------------------------------------

STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=20),
    st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode("ascii")),
    st.just([]),
    st.just({}),
)


def _paths(tree: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in the JSON something can be put in the place of something else."""
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for step, below in steps:
        found.append((*before, step))
        if isinstance(below, dict | list):
            found += _paths(below, (*before, step))
    return found


GIVER = Vendor()
GIVER.rotate(new_keys=True)
WHOLE = msgspec.structs.replace(GIVER.issue(Kind.VOLUME), roots=tuple(GIVER.roots))
FIRST = Trust.load(encode_envelope(GIVER.roots[0]))


@given(st.sampled_from(_paths(json.loads(encode_envelope(WHOLE)))), STRANGE)
def test_an_envelope_with_anything_in_any_place_is_refused_or_means_the_same(
    path: tuple[Any, ...], strange: Any
) -> None:
    tree = json.loads(encode_envelope(WHOLE))
    *above, last = path
    place = reduce(lambda part, step: part[step], above, tree)
    place[last] = strange
    try:
        found, _ = FIRST.open_license(decode_envelope(json.dumps(tree).encode()))
    except LicenseError:
        return
    assert found == FIRST.open_license(WHOLE)[0]


@given(st.sampled_from([ROOT, DELEGATION, LICENSE]), st.binary(max_size=80))
def test_what_is_signed_by_nobody_is_refused_whatever_it_holds(
    payload_type: str, payload: bytes
) -> None:
    envelope = sign(payload_type, payload, [Ed25519PrivateKey.generate()])
    for refused in (envelope, msgspec.structs.replace(WHOLE, roots=(envelope,))):
        with pytest.raises(LicenseError):
            FIRST.open_license(refused)
