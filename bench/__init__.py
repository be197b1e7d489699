"""The speed of Sluice, measured beside its peers on one machine; run by `make bench` (README.md).

Nothing of this package is part of the product, and nothing in `mta` imports it.
"""
