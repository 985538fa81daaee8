"""The client of the HTTP API, sync and async: the distribution `lockgate-client`, which stands by itself."""

try:
    from lockgate_client import *  # noqa: F403
    from lockgate_client import __all__ as __all__
except ModuleNotFoundError as error:
    if error.name not in ("httpx", "lockgate_client"):
        raise
    missing = error.name.replace("_", "-")
    raise ImportError(f"the clients need {missing}: pip install 'lockgate[client]'") from error
