"""Names: MX, A, AAAA and TXT over dnspython's messages, cached, single flight, and quick to say when no server answers."""
