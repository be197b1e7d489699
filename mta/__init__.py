"""Sluice: a self-hosted, high-volume outbound MTA. `docs/architecture.md` is the house plan."""

__version__ = "0.1.0"
