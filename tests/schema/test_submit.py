from tests.contract import Contract


def test_a_task_due_now_is_queued(q: Contract) -> None:
    task = q.task(q.submit("sleep", payload={"max": 3}))
    assert (task.status, task.queue, task.kind, task.payload) == ("queued", "default", "sleep", {"max": 3})
