"""Parameters of paths and queries: what operations share, and what is refused before any of them."""

from typing import Annotated, Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import ParameterKwarg, PathParameter

from service.errors import invalid

TaskId = Annotated[int, PathParameter(description="The task's number.")]
QueueName = Annotated[str, PathParameter(description="The queue's name.")]


def only_known(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard. Raises Refusal (400) for a query parameter that the operation does not have or takes only once, and for
    text that cannot be stored."""
    known = {
        name: parameter
        for name, parameter in handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, ParameterKwarg) and parameter.kwarg_definition.param_type == "query"
    }
    given = connection.query_params.dict()
    for name, values in given.items():
        if name not in known:
            there_are = f"there are {', '.join(sorted(known))}" if known else "there are none"
            raise invalid(name.replace("\0", "�"), f"is not a parameter: {there_are}")
        if len(values) > 1 and not known[name].has_inner_subclass_of(str):
            raise invalid(name, "is given more than once")
    for name, value in [(n, v) for n, vs in given.items() for v in vs] + list(connection.path_params.items()):
        if isinstance(value, str) and "\0" in value:
            raise invalid(name, "holds a NUL character (U+0000)")
