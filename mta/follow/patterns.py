"""Names chosen by patterns: `*` stands for anything, `!` in front leaves out, the first that matches decides. Pure.

What no pattern matches is chosen only where every pattern leaves something out: `["!test-*"]` is all but those, `["a", "b"]` is
those two. No patterns choose everything.
"""

import fnmatch
import re
from collections.abc import Sequence

_CACHE_LIMIT = 4096


class Patterns:
    """Says of a name whether it is chosen; remembers what it said, in bounded memory. One thread."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._rules = [(not text.startswith("!"), _compile(text)) for text in patterns]
        self._otherwise = not any(chooses for chooses, _ in self._rules)
        self._remembered: dict[str, bool] = {}

    def choose(self, name: str) -> bool:
        """Whether `name` is chosen; case does not count."""
        known = self._remembered.get(name)
        if known is None:
            if (
                len(self._remembered) >= _CACHE_LIMIT
            ):  # names of jobs and domains come from strangers
                self._remembered.clear()
            known = self._remembered[name] = self._decide(name)
        return known

    def _decide(self, name: str) -> bool:
        for chooses, pattern in self._rules:
            if pattern.fullmatch(name):
                return chooses
        return self._otherwise


def _compile(text: str) -> re.Pattern[str]:
    # Only `*` is special here. `fnmatch` makes each star's match final, so that "*a*a*b" takes no time over a long name.
    shell = re.sub(r"[\[?]", r"[\g<0>]", text.removeprefix("!"))
    return re.compile(fnmatch.translate(shell), re.IGNORECASE)
