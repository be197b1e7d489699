"""What we count, each with its help text, and how it is shown to Prometheus. Counting is an
addition; the rest happens at scrape."""
