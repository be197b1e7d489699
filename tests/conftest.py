"""How hypothesis works in all tests: no single example is timed, for the machine may have other work."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
