"""Who asks, and what they may."""

from typing import Literal

from msgspec import Struct

from lockgate_service.http.problems import Refusal

Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "submit", "admin")  # each includes those before it


class Caller(Struct, frozen=True):
    """Whoever has this key; or anybody, where no key is asked for.

    `owner` is the scope of its idempotency keys. A caller with a `queue` is to see and to touch only what is in that.
    Of paths with a task's number or a queue's name the guard sees to it; what takes queues otherwise asks `queue_of`
    or `sees`.
    """

    scope: Scope = "admin"
    owner: str = ""
    queue: str | None = None
    key: str | None = None

    def may(self, scope: Scope) -> bool:
        return SCOPES.index(self.scope) >= SCOPES.index(scope)

    def sees(self, queue: str) -> bool:
        return self.queue is None or self.queue == queue

    def queue_of(self, named: str | None) -> str | None:
        """Which queue a request is about that names this one, or none. Raises Refusal (403) if that is not its own."""
        if self.queue is None or named == self.queue:
            return named
        if named is None:
            return self.queue
        raise Refusal(403, f'this key is good for queue "{self.queue}" only')


ANYBODY = Caller()
