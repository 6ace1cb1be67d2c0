"""Static tokens from a file (`--token-auth-file`): CSV lines of token, user, uid and, quoted, the groups. Read once, at start.

Source: "Authenticating", static token file, of the Kubernetes documentation.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from minik8s.api.user import AUTHENTICATED, User


def read(file: Path) -> Mapping[str, User]:
    """The file's users by their tokens; of lines with the same token the last counts. OSError, and ValueError with the line."""
    users: dict[str, User] = {}
    with file.open(newline="") as lines:
        for number, row in enumerate(csv.reader(lines, skipinitialspace=True, strict=True), 1):
            if not row:
                continue
            token, name, uid, *more = (*(field.strip() for field in row), "", "")[: max(len(row), 3)]
            if len(row) < 3 or not name:
                raise ValueError(f'line {number} of {file} is no token,user,uid,"groups"')
            if not token:
                continue  # as upstream
            groups = tuple(group.strip() for group in more[0].split(",") if group.strip()) if more else ()
            users[token] = User(name, (*groups, AUTHENTICATED), uid)
    return users
