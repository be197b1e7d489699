"""The vendor's own command, `sluice-license`: keys, roots, licences, revocations. Needed on no customer's machine."""
