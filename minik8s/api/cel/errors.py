"""What goes wrong: at compile time with a place in the text, at run time with a cause. Knows nobody."""

from __future__ import annotations

MAX_SNIPPET = 16384


class EvaluationError(Exception):
    """An expression had no answer; the text is cel-go's: `no such key: x`."""


class CostError(EvaluationError):
    """An evaluation cost more than it may. No operator absorbs it."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class Issue:
    """One complaint about a place (an offset in the text)."""

    __slots__ = ("message", "offset")

    def __init__(self, offset: int, message: str) -> None:
        self.offset = offset
        self.message = message

    def tell(self, text: str) -> str:
        """With the line and a mark under the place."""
        start = text.rfind("\n", 0, self.offset) + 1
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)]
        column = self.offset - start
        head = f"ERROR: <input>:{text.count(chr(10), 0, start) + 1}:{column + 1}: {self.message}"
        if len(line) > MAX_SNIPPET:
            return head
        marks = "".join("\uff0e" if ord(char) > 127 else "." for char in line[:column])
        mark = "\uff3e" if column < len(line) and ord(line[column]) > 127 else "^"
        shown = line.replace("\t", " ")
        return f"{head}\n | {shown}\n | {marks}{mark}"


class CompileError(Exception):
    """An expression that can't be compiled: all that is wrong with it, in the order of the text."""

    def __init__(self, text: str, issues: list[Issue]) -> None:
        ordered = sorted(issues, key=lambda issue: issue.offset)
        super().__init__("\n".join(issue.tell(text) for issue in ordered))
        self.issues = ordered


def no_overload() -> EvaluationError:
    """A function or operator met values that it isn't for."""
    return EvaluationError("no such overload")
