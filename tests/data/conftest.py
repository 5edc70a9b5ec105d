"""Settings of the property tests of the data layer."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # the first example of a test pays for imports and checks
settings.load_profile("unhurried")
