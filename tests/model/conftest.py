"""How long the machine looks. `brief` is what every run of the tests does; `long` is for a quiet machine."""

from hypothesis import HealthCheck, settings

SECONDS = {"brief": 30.0}
"""When to begin nothing new any more, by profile: this machine may be slow, or busy."""

# Every example is some hundred round trips; what takes long is no fault of it.
settings.register_profile(
    "brief",
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile("long", settings.get_profile("brief"), max_examples=5000, stateful_step_count=100)

if settings.get_current_profile_name() in ("default", "ci"):
    settings.load_profile("brief")
