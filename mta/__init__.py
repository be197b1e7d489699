"""Sluice: a self-hosted, high-volume outbound MTA. `docs/architecture.md` is the house plan."""

from importlib.util import find_spec

__version__ = "0.1.0"


def form() -> str:
    """What runs: "compiled" (from a wheel that was) or "pure Python"."""
    spec = find_spec("mta.smtp.server")
    is_source = spec is None or (spec.origin or ".py").endswith(".py")
    return "pure Python" if is_source else "compiled"
