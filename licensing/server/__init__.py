"""The vendor's licence server: gives seats, counts reports, cuts leases, and says when a state was copied or set back.

Rules without IO (`reports`, `pool`, `seats`, `rates`, `chain`), rows and their storage (`rows`, `store`, `db_sqlite`), the clerks
that do one request in one transaction (`activating`, `counting`, `leasing`), and around them the commit (`commit`), the signer
and two HTTP faces (`app` for nodes, `admin` for the vendor). Everything is committed before it is answered. It never signs a
licence, and source addresses stand only in the bounded ring of errors (C29).
"""
