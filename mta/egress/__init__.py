"""Mail goes out: where to (`route`), how (`opening`, `session`), what came of it (`settle`), and when, as the
scheduler says (`dispatcher`).

Drives the sans-IO client of `mta.smtp` and the decisions of `mta.queue` over `mta.io`, `mta.dns` and `mta.spool`.
"""
