"""Licences: files the vendor signs, and what they allow now. Never imports `mta`."""
