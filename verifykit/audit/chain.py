"""Following a chain of lines, and saying where it breaks and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from verifykit.audit.entry import FORMAT, GAP, ORIGIN, entry_of, unsealed
from verifykit.errors import AuditError

ProblemKind: TypeAlias = Literal["changed", "missing", "inserted", "reordered", "gap", "head"]

_REMEMBERED = 8
_GAPS = {
    "damaged_lines": "the lines before it were damaged already when it was written",
    "head_lost": "the head file was gone when it was written: lines may be missing before it",
    "another_log": "the head file was another log's when it was written: that log is gone, or was exchanged "
    "for this one",
    "lines_missing": "lines before it were missing already when it was written",
    "last_line_changed": "the line before it was not the one that had been written last",
}


@dataclass(frozen=True)
class AuditProblem:
    """Something that is wrong with a log.

    Attributes:
        line: Number of the line in the file, from 1; where lines are missing, that of the line which
            stands in their place, or one more than there are. None when it is about the head file.
        kind: ``changed``, ``missing``, ``inserted`` (into this log, or moved there), ``reordered``
            (repeated or moved), ``gap`` (told by the log itself) or ``head``.
        message: A sentence.
    """

    line: int | None
    kind: ProblemKind
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class _Tip(NamedTuple):
    """What a next line may be sealed to."""

    sequence: int
    hash: str
    line: int

    def leads_to(self, body: dict[str, Any]) -> bool:
        return bool(body["sequence"] == self.sequence + 1 and body["previous"] == self.hash)


class Chain:
    """Takes the lines of a log in order, and holds no more than a few of them.

    A line that does not fit is judged when the next one is seen: if that one goes on where the line before
    stopped, the line was put in between; if it goes on from the line, something is missing before it.

    Attributes:
        tip: The last line that is part of the chain.
        log_id: What the line that begins a log says; empty without one.
        damaged: Lines since then that are none by themselves.
    """

    def __init__(self) -> None:
        self.tip = _Tip(0, ORIGIN, 0)
        self.log_id = ""
        self.damaged = 0
        self._pending: AuditProblem | None = None
        # Where the chain stopped when it went on elsewhere; and lines that were named as put in, which it
        # may go on from.
        self._before: list[_Tip] = []
        self._moved: list[_Tip] = []

    def take(self, number: int, line: bytes) -> Iterator[AuditProblem]:
        """Look at the next line.

        Args:
            number: Its number in the file, from 1.
            line: With its line feed.

        Yields:
            What is wrong, here or at the line before.
        """
        body, sound = unsealed(line)
        wrong = _wrong(body, sound)
        if body is None or wrong:
            yield from self.flush()
            self.damaged += 1
            yield AuditProblem(number, "changed", wrong)
            return
        self.log_id = self.log_id or str(body.get("log_id", ""))
        here = _Tip(body["sequence"], body["hash"], number)
        if self.tip.leads_to(body):
            yield from self.flush()
            self._go_on(here)
            if body.get("verb") == GAP:
                yield self._gap(body, number)
        elif body.get("verb") == GAP and body["previous"] == self.tip.hash:
            yield from self.flush()
            yield self._gap(body, number)
            self._go_on(here)
        elif 1 < here.sequence - self.tip.sequence <= 1 + self.damaged:
            self._go_on(here)  # what stands between is damaged, and named
        elif self._is_last_before(body):
            yield self._put_in()
            self._moved = [*self._moved, self.tip][-_REMEMBERED:]
            self._go_on(here)
        else:
            yield from self._astray(body, here)

    def flush(self) -> Iterator[AuditProblem]:
        """What was still to be judged; call it once more at the end.

        Yields:
            One problem at most.
        """
        if self._pending:
            yield self._pending
        self._pending = None

    def _astray(self, body: dict[str, Any], here: _Tip) -> Iterator[AuditProblem]:
        """A line that does not follow the one before."""
        yield from self.flush()
        moved = [tip for tip in self._moved if tip.leads_to(body)]
        earlier = [tip for tip in self._before if tip.leads_to(body)]
        if moved:
            self._moved.remove(moved[0])  # the place from which a line was moved, which is named
            self._go_on(here)
        elif earlier:
            yield AuditProblem(
                here.line,
                "reordered",
                f"it follows line {earlier[0].line} and not the line before it: lines between were put in or "
                "moved",
            )
            self._leave(here)
        elif here.sequence <= self.tip.sequence:
            yield AuditProblem(
                here.line,
                "reordered",
                f"entry {here.sequence} stands behind entry {self.tip.sequence}: it was repeated, moved or "
                "put in",
            )
        else:
            self._pending = AuditProblem(here.line, *self._break(here))
            self._leave(here)

    def _break(self, here: _Tip) -> tuple[ProblemKind, str]:
        first, last = self.tip.sequence + 1, here.sequence - 1
        place = f"line {self.tip.line}" if self.tip.line else "the beginning"
        if first > last:
            return "changed", (
                f"it is not sealed to {place}: that line was changed and sealed again, or this one is "
                "another log's"
            )
        missing = f"entry {first} is" if first == last else f"entries {first} to {last} are"
        return "missing", f"it does not follow {place}: {missing} missing here"

    def _put_in(self) -> AuditProblem:
        self._pending = None
        return AuditProblem(
            self.tip.line,
            "inserted",
            f"entry {self.tip.sequence} does not belong between the lines around it: it was put in, or moved "
            "here from its place",
        )

    def _is_last_before(self, body: dict[str, Any]) -> bool:
        return bool(self._pending and self._before and self._before[-1].leads_to(body))

    def _leave(self, here: _Tip) -> None:
        self._before = [*self._before, self.tip][-_REMEMBERED:]
        self.tip, self.damaged = here, 0

    def _go_on(self, here: _Tip) -> None:
        self.tip, self.damaged = here, 0

    def _gap(self, body: dict[str, Any], number: int) -> AuditProblem:
        told = _GAPS.get(str(body.get("reason")), "something was wrong before it")
        first, last = self.tip.sequence + 1, body["sequence"] - 1
        numbers = f" (entries {first} to {last})" if first <= last else ""
        return AuditProblem(number, "gap", f"{told}{numbers}")


def _wrong(body: dict[str, Any] | None, sound: bool) -> str:
    """What is wrong with a line by itself; empty if nothing is."""
    if body is None:
        return "it is no entry of an audit log: it was changed or put in"
    if not sound:
        return f"its hash does not match its content: entry {body['sequence']} was changed"
    if body["sequence"] == 1 and body.get("audit_log") == FORMAT:
        return "" if isinstance(body.get("log_id"), str) else "it does not name its log"
    try:
        entry_of(body)
    except AuditError as error:
        return str(error)
    return ""
