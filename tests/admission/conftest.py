"""Properties are tried on the same examples everywhere, so that a failure is never a matter of luck."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "specification",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("specification")
