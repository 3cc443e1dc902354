"""Records that are made once: a record whose names are in the file is read from it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from lines import Record, append, read_lines

from scoresde.plans.plan import Plan


class Kept:
    """The records of a file of JSON lines.

    Args:
        file: of the lines; new ones are added as soon as they are made.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = read_lines(file) if file.exists() else ()
        self.known = {record["key"]: record for _, record in lines if "key" in record}

    def record(self, names: Record, make: Callable[[], Record]) -> Record:
        """The record with these names and key; ``make`` gives its figures, if the file does not have it."""
        key = digest(json.dumps(names, sort_keys=True))
        if key not in self.known:
            self.known[key] = names | make() | {"key": key}
            append(self.file, self.known[key])
        return self.known[key]


def plan_key(plan: Plan) -> str:
    """A digest of the numbers of a plan."""
    return digest(repr((plan.lines, plan.start, plan.end)))


def digest(text: str | bytes) -> str:
    """Sixteen characters that stand for a text."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]
