"""``python -m bench.baseline PORT``: a Litestar handler that decodes the body as ours does, and does nothing."""

import sys

import uvicorn
from litestar import Litestar, post
from litestar.params import JSONBody
from lockgate_service.http.body import StrictRequest
from lockgate_service.server import BACKLOG
from lockgate_service.server import listen as listener
from lockgate_service.tasks.messages import NewTask, TaskNumber


@post("/tasks", status_code=202)
async def create_task(data: JSONBody[NewTask]) -> TaskNumber:
    return TaskNumber(len(data.kind))


def main() -> None:
    app = Litestar([create_task], request_class=StrictRequest, openapi_config=None, logging_config=None)
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, backlog=BACKLOG)
    uvicorn.Server(config).run(sockets=[listener("127.0.0.1", int(sys.argv[1]))])


if __name__ == "__main__":
    main()
