"""ComponentStatuses: read only, made by the API server at each ask."""

from __future__ import annotations

from minik8s.api.kind import NAME, Column, Frozen, Kind


def row(obj: Frozen, now: float) -> list[object]:
    conditions = obj.get("conditions") or []
    health: Frozen = next((each for each in conditions if each["type"] == "Healthy"), {})
    shown = {"True": "Healthy", "False": "Unhealthy"}.get(health.get("status", ""), "Unknown")
    return [obj["metadata"]["name"], shown, health.get("message", ""), health.get("error", "")]


KIND = Kind(
    columns=(
        NAME,
        Column("Status", description="Whether the component is well."),
        Column("Message", description="What it says of itself."),
        Column("Error", description="Why nothing is known of it."),
    ),
    row=row,
)
