"""Who the mail is for: the domain number of each message, cycling or Zipf-distributed. Pure, and the same every time.

A recipient is a text in which `{n}` is the number of the message, `{d}` that of its domain and `{r}` that of the
recipient within the message.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

SEED = 20_260_101  # any number: every contestant must see the same mail
_AT_ONCE = 1_000


def domain_numbers(domains: int, *, zipf: bool) -> Iterator[int]:
    """Endless numbers 1 … `domains`: in turn, or number k with a probability proportional to 1/k."""
    if not zipf:
        yield from itertools.cycle(range(1, max(domains, 1) + 1))
    numbers = range(1, domains + 1)
    weights = list(itertools.accumulate(1 / number for number in numbers))
    dice = random.Random(SEED)
    while True:
        yield from dice.choices(numbers, cum_weights=weights, k=_AT_ONCE)


def name_recipients(pattern: str, number: int, domain: int, each: int) -> list[str]:
    """The `each` recipients of message `number`."""
    one = pattern.replace("{n}", str(number)).replace("{d}", str(domain))
    return [one.replace("{r}", str(place)) for place in range(1, each + 1)]
