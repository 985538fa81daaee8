"""How long is looked for an order of calls that breaks something, and in what portions."""

from hypothesis import HealthCheck, settings

SECONDS = {"brief": 30.0, "long": 3600.0}
"""By profile. Time decides, because machines differ, and this one may be busy."""

# A round of examples, each some hundred round trips; what takes long is no fault of it.
settings.register_profile(
    "brief",
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile("long", settings.get_profile("brief"), max_examples=200, stateful_step_count=100)

if settings.get_current_profile_name() not in SECONDS:
    settings.load_profile("brief")
