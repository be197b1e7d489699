"""Which domains lie behind a named site, as far as routes were looked up: so that an operator can name a site.

A domain that is its own site needs no memory. Of the others the last `MAX_DOMAINS` are kept; what was never resolved since the
start is not among them, unless the configuration lists it.
"""

from collections.abc import Iterable

from mta.policy.book import Book

MAX_DOMAINS = 100_000


class KnownSites:
    """Domain → named site. Lives on the loop."""

    def __init__(self) -> None:
        self._sites: dict[str, str] = {}

    def note(self, domain: str, site: str) -> None:
        """The domain's route was found to lead to this site."""
        self._sites.pop(domain, None)
        if site == domain:
            return
        self._sites[domain] = site
        if len(self._sites) > MAX_DOMAINS:
            del self._sites[next(iter(self._sites))]

    def site_of(self, domain: str) -> str:
        """The named site of a domain, "" if none is known."""
        return self._sites.get(domain, "")

    def clear(self) -> None:
        """Another configuration may see other sites."""
        self._sites.clear()

    def domains(self, site: str, book: Book, loaded: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """All domains known to be of this site. `loaded`: (domain, site) of the queues in memory."""
        found = {domain for domain, of in self._sites.items() if of == site}
        found.update(domain for domain, of in loaded if of == site)
        if site in book.sites:
            found.update(book.sites[site].domains)
        elif book.site_for(site, ()) == site:
            found.add(site)
        return tuple(sorted(found))
