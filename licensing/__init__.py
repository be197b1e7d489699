"""Licences: files the vendor signs, and what they allow now. Never imports `mta`.

Two faces: the customer's (`sluice license …`, and `licensing.guard` inside the daemon) and the vendor's (`sluice-license …`:
`licensing.vendor` signs, `licensing.server` answers). No private key of the vendor and no issuing code is needed on a
customer's machine. Counts are all this package ever sees of the mail: no address, no content.
"""
