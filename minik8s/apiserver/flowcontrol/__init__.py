"""API priority and fairness (KEP-1040): a flood of one user's requests harms nobody else.

Each request belongs to a flow of a FlowSchema, whose priority level has seats (how many requests run at a time) and queues (where the
others wait, each flow in a few of them). `classify.py` says what a request belongs to, `width.py` how many seats it takes, `limits.py`
how many there are, `fairness.py` who is next (pure: no clock, no tasks); `gate.py` makes requests wait; `report.py` and `pages.py` tell of
it: metrics, conditions, dumps. `api/kinds/flowcontrol*.py` has the objects.

What a seat means here. One event loop runs all requests; most of them run to their end in a single step, so that a limit on those
under way at a time would hardly ever hold one back. Therefore two things are scarce, and both are given by the same queues: seats, for
requests that wait for something (the store's fsync, a body, a slow reader), and the loop's time: once the requests of one turn of the
loop have taken TURN seconds, all further ones wait in their queues, and one of these runs a turn. A level whose requests don't pile up
is served at once.

A client is given seats once its small body is there, and keeps them while it sends a large one or reads a large answer, for a minute at
most each: no more of those are in memory than there are seats, and nobody holds a seat by being slow.

Differences from upstream: seats that a level lends are borrowed at once, not each ten seconds; parts of the server's own process
(controllers, scheduler) don't wait at all; exempt requests are counted, but not how many of them run.
"""

from minik8s.apiserver.flowcontrol.gate import Gate, Visit

__all__ = ["Gate", "Visit"]
