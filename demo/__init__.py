"""Shows that are no part of what is shipped: `python -m demo.license_chain`."""
