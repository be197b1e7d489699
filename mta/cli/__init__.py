"""The command `sluice`: the daemon, its operator's verbs, the tools beside it. Every list can be had as JSON.

Commands load what they need when they are called: asking a running server must not wait for the import of a whole MTA.
"""


def main() -> None:
    """The entry point of `sluice`."""
    from mta.cli.app import app

    app()
