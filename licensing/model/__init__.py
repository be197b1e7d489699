"""The signed statements: licences, activations, reports, acknowledgements, leases, revocations. Shapes and field rules only.

Vendor → customer statements ignore unknown fields (an older daemon reads a newer licence; what it must understand stands in
`crit`). Customer → vendor statements are closed: the report has exactly these fields and no other, ever (C20, C30; the test of
the schema's hash fails when one is added). Times are seconds since 1970 (UTC) in reports, RFC 3339 in licences.
"""
