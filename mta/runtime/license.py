"""The seam to licensing: what the licence allows now, as an `Entitlement` that the house reads and never computes.

Until `licensing.guard` stands behind it, the answer is always yes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What the licence allows at this moment. Never an exception: a licence in trouble is an Entitlement that says no."""

    inject: bool = True  # may mail be taken in
    deliver: bool = True  # may mail be delivered
    max_connections: int | None = None  # outbound, over all workers; None: unlimited
    notice: str = ""  # what the operator should know, "" nothing


UNLIMITED = Entitlement()
