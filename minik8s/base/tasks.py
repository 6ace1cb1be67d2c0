"""Owned tasks: each has an owner that sees it die, and shutdown is ordered.

An `Owner` starts tasks; when one of them ends with an exception, the owner logs it and calls `on_failure` (by default nothing
more), so that no failure is lost. `stop()` cancels the tasks in the reverse order of their start and waits for each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Owner:
    """Holds tasks for a part; `name` stands in the log. Not for use from other threads."""

    def __init__(self, name: str, on_failure: Callable[[BaseException], None] | None = None) -> None:
        self.name = name
        self._on_failure = on_failure
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Runs `work` as a task of this owner."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self.name}/{name}")
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    async def stop(self) -> None:
        """Cancels all tasks, newest first, and returns when each has ended. May be called again."""
        while self._tasks:
            task = next(reversed(self._tasks))
            self._tasks.pop(task)
            task.cancel()
            await asyncio.wait([task])

    def __len__(self) -> int:
        return len(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("task %s died", task.get_name(), exc_info=error)
        if self._on_failure:
            self._on_failure(error)
