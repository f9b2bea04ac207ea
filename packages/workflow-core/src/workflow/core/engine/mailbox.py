"""Mail that has arrived and is not resolved yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from workflow.core.records import Mail

from .operations import ApprovalOperation, Operation, SignalOperation

__all__ = ["Mailbox"]


class Mailbox:
    """Matches mail with what waits for it: signals by name, oldest wait first; approvals by id; cancels at once."""

    def __init__(self, mail: Iterable[Mail]) -> None:
        self._mail: dict[str, deque[Mail]] = {}
        self._waiting: dict[str, deque[Operation]] = {}
        self.changed = False
        """Whether there is anything to match that `next_match` has not looked through."""
        self.add(mail)

    def add(self, mail: Iterable[Mail]) -> None:
        for item in mail:
            self._mail.setdefault(item.key, deque()).append(item)
            self.changed = True

    def expect(self, operation: Operation) -> None:
        """Note that the handler waits for mail now."""
        wait = operation.wait()
        if wait is not None and wait.mail_key is not None:
            self._waiting.setdefault(wait.mail_key, deque()).append(operation)
            self.changed = True

    def next_match(self) -> tuple[Mail, Operation | None] | None:
        """The earliest mail that something waits for, with that wait (None: a cancel request). It stays here.

        Nothing is looked through again until mail or a wait has been added, or a match taken.
        """
        if not self.changed:
            return None
        best: tuple[Mail, Operation | None] | None = None
        for key, queue in self._mail.items():
            if best is not None and best[0].seq < queue[0].seq:
                continue
            if queue[0].kind == "cancel":
                best = queue[0], None
            elif (operation := self._first_open(key)) is not None:
                best = queue[0], operation
        self.changed = best is not None
        return best

    def take(self, mail: Mail) -> None:
        """Remove the mail that `next_match` gave."""
        queue = self._mail[mail.key]
        queue.popleft()
        if not queue:
            del self._mail[mail.key]

    def _first_open(self, key: str) -> Operation | None:
        waiting = self._waiting.get(key)
        while waiting:
            operation = waiting[0]
            if not operation.future.done() and isinstance(operation, (SignalOperation, ApprovalOperation)):
                return operation
            waiting.popleft()
        return None
