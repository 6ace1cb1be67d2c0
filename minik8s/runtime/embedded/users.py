"""Who a container's process is: names and numbers by the image's own /etc/passwd and /etc/group.

The rules are containerd's: a user is `name`, `uid`, `name:group` or `uid:gid`; without a group the user's own of passwd, or 0; HOME is
passwd's or `/`; the groups that list the user's name are merged in unless the policy is Strict. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Identity(TypedDict):
        uid: int
        gid: int
        groups: list[int]
        home: str


def resolve(
    user: str, group: int | None, supplemental: Sequence[int], policy: str, passwd: Sequence[str], groups: Sequence[str]
) -> Identity:
    """Raises LookupError where a name is in neither file."""
    name_or_uid, _, group_text = user.partition(":")
    wanted = name_or_uid or "0"
    entries = [fields for line in passwd if len(fields := line.strip().split(":")) >= 6 and fields[2].isdigit()]
    found = next((fields for fields in entries if wanted in (fields[0], fields[2])), None)
    if found is None and not wanted.isdigit():
        raise LookupError(f"unable to find user {wanted}: no matching entries in passwd file")
    uid = int(found[2] if found else wanted)
    memberships = [fields for line in groups if len(fields := line.strip().split(":")) >= 4 and fields[2].isdigit()]
    if group is not None:
        gid = group
    elif group_text:
        gid = _group_id(group_text, memberships)
    else:
        gid = int(found[3]) if found and found[3].isdigit() else 0
    merged = {gid, *supplemental}
    if found and policy != "Strict":
        merged |= {int(fields[2]) for fields in memberships if found[0] in fields[3].split(",")}
    return {"uid": uid, "gid": gid, "groups": sorted(merged), "home": (found[5] if found else "") or "/"}


def _group_id(wanted: str, memberships: Sequence[Sequence[str]]) -> int:
    for fields in memberships:
        if wanted in (fields[0], fields[2]):
            return int(fields[2])
    if wanted.isdigit():
        return int(wanted)
    raise LookupError(f"unable to find group {wanted}: no matching entries in group file")
