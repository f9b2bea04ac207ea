"""`RunStore`: what the engine needs of a store. Its docstrings are the contract.

A run is one row with a status and one due time; its log is append-only; its inbox holds mail (signals, approval
decisions, cancel requests). These invariants hold after every operation, whatever crashed in between:

- A run that has not ended is leased (`running`, due at the lease's end), or due at a time (`queued`, `paused`), or
  waits for mail (`paused` with `waits`).
- `log_length` is the number of records, and their indexes are 0, 1, 2, ... without a gap.
- Each mail is unconsumed, or consumed by the very commit that appended the record which resolves it.

Each operation is atomic (it happens as a whole or not at all) and takes effect before it returns. An operation that
raised an error of the connection may have happened: each says below what its repetition does. Every decision about
time uses the `now` that the caller passes, never the store's clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime

from .records import ClaimedRun, Commit, Committed, CreatedRun, Delivered, Lease, LogRecord, NewMail, NewRun, RunRecord

__all__ = ["RunStore"]


class RunStore(ABC):
    """The durable side of one run at a time: create, claim, commit, deliver, read."""

    @abstractmethod
    async def create_run(self, new: NewRun, *, lease: Lease | None, now: datetime) -> CreatedRun:
        """Create the run, unless there is one of this id; with a `lease`, claim what was created.

        Created under a lease, the run is `running` with fence 1, started `now`, due at the lease's end, and `claimed`
        is given (`claimed_from` is `queued`). Without a lease it is `queued`, due at `new.due_at`. Where a run of
        this id exists, nothing is written, `created` is False and `run` is its row: it is never claimed, whatever its
        workflow or input. Except with `new.replace_unstarted`, where that run is of the same workflow, `queued` and
        was never claimed (fence 0): it gets the new `input`, `due_at`, `expires_at`, `queue`, `key` and `priority`.
        Repeating it after an unknown end is safe, but a run created under the lost answer's lease is only taken up when
        that lease ends.

        The records of `new.log` are its log from index 0 on, and `new.state` its state.
        """

    @abstractmethod
    async def claim_run(self, run_id: str, lease: Lease, *, now: datetime, force: bool = False) -> ClaimedRun | None:
        """Claim one run if it is due: `due_at <= now` and it has not ended. None where it isn't, or is unknown.

        Raises the fence by one, sets status `running`, owner and `due_at` to the lease's, `started_at` to `now` if it
        is the first claim, and adds one to `recoveries` where the run was `running` (its owner's lease had run out).
        Of several concurrent claims exactly one succeeds. `force` takes a run that has not ended even if it is leased
        or not due (the former owner's commits are refused from then on); it counts as a recovery if it was `running`.
        """

    @abstractmethod
    async def commit(self, commit: Commit) -> Committed:
        """Move a run: append records, consume mail, save the state, and keep or release the lease. All or nothing.

        Applies only if the run is `running` with this `fence` and its log has `expected_index` records. Otherwise
        nothing is written, and it raises `LeaseLostError` (another fence, ended, released, or no such run) or
        `LogConflictError` (same fence, other length). A lease whose time has run out but that nobody has taken is
        still good.

        - Without a `transition` the run stays `running` and is due at `commit.lease.until`.
        - With one, status, due time, waits, output, error and (where not None) recoveries are replaced and the owner is
          removed. The fence stays. An ended run gets `completed_at = now`, and its `error` is what the transition says.
        - A transition to `paused` while there is unconsumed mail after `seen_mail` is not carried out: records,
          consumption and state are written, the run stays `running` under the lease, and `released` is False. So a
          drive can never sleep through mail.

        `lease.owner` is of no account here: the owner stays, only the time is used.
        The answer brings all unconsumed mail after `seen_mail` (for an ended run: none).

        Idempotent: repeating a commit that has been applied (the fence is the same and the log ends where this
        commit would end it, and the status is what this commit would leave or what later mail made of it) changes
        nothing and answers as if it were applied now. For a commit without records or transition that is simply so.
        """

    @abstractmethod
    async def deliver(self, run_id: str, mail: NewMail, *, lease: Lease | None, now: datetime) -> Delivered:
        """Put mail into a run's inbox, make the run ready if it waits for it, and with a `lease` claim it then.

        - `not_found`: no such run; nothing is written.
        - `duplicate`: a mail of this `(kind, id)` was delivered to this run before, consumed or not; nothing is
          written.
        - `ended`: the run has ended; nothing is written.
        - `accepted`: the mail has the next `seq` and `sent_at = now`, and survives everything from here on.

        The mail is `awaited` if one of the run's waits has its `key`, whatever the run's status; a cancel request
        always is. A run that awaits it and is `paused`, or `queued` for later, becomes `queued` and due `now` in the
        same atomic operation. Mail that is not awaited leaves status and due time as they are. With a `lease`, a run
        that is then `queued` and due is claimed as by `claim_run`. Repeating it after an unknown end answers
        `duplicate` if it had happened.
        """

    @abstractmethod
    async def get_run(self, run_id: str) -> RunRecord | None:
        """The run's row, or None."""

    @abstractmethod
    async def read_log(self, run_id: str, *, after: int = -1, limit: int | None = None) -> Sequence[LogRecord]:
        """The records with an index greater than `after`, in order, at most `limit`. Empty for an unknown run."""
