"""`python -m mta` is `sluice`."""

from mta.cli import main

main()
