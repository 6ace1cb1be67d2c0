"""What a bench finds: a value, and where there is one the ratio that must reach a target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """`ratio` is to the yardstick, or the value itself where the target is absolute. One of `least` and `most` is the target."""

    name: str
    value: str
    ratio: float | None = None
    unit: str = "Y"
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def missed(self) -> bool:
        if self.ratio is None:
            return False
        return (self.least is not None and self.ratio < self.least) or (self.most is not None and self.ratio > self.most)

    def __str__(self) -> str:
        judged = ""
        if self.ratio is not None:
            target = (
                f"(>= {self.least:g})" if self.least is not None else f"(<= {self.most:g})" if self.most is not None else ""
            )
            verdict = "" if not target else "MISSED" if self.missed else "ok"
            judged = f"{self.ratio:8.3f} {self.unit:<3}{target:<10}{verdict}"
        return f"{self.name:<38}{self.value:>20}{judged:<32} {self.note}".rstrip()
