"""Shows that are no part of what is shipped: `python -m tests.demo.license_chain`."""
