"""What the client raises: RequestFailed for whatever goes wrong with a request, and how a task ended when it ended
badly."""

from lockgate_client.messages import Problem, Taken, Task, TaskError


class RequestFailed(Exception):
    """A request was refused, or has got no answer.

    `problem` says why it was refused; None: no answer came, or none that can be understood, and `__cause__` says why.
    Then, and after a 503, what was asked may have been done or not. `taken`, from `submit_many` and `stream`: what is
    stored for sure.
    """

    def __init__(self, says: str, problem: Problem | None = None, retry_after: float | None = None) -> None:
        super().__init__(says)
        self.problem = problem
        self.retry_after = retry_after
        """Seconds after which the service wants to be asked again."""
        self.taken: Taken | None = None

    @property
    def status(self) -> int | None:
        """Of the answer; None if there was none."""
        return self.problem.status if self.problem else None


class TaskFailed(Exception):
    """The task that was waited for has failed. `error` is that of its last attempt."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.error = task.error or TaskError()
        super().__init__(f"task {task.id} has failed: {self.error.type}: {self.error.message}")


class TaskCancelled(Exception):
    """The task that was waited for was cancelled. `error` is that of its last attempt, if one failed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.error = task.error
        super().__init__(f"task {task.id} was cancelled")
