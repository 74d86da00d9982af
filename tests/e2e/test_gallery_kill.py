"""``kill -9`` in the middle of enrolments, again and again: nothing acknowledged is lost, nothing is torn.

A kill ends the process and not the machine: what it shows is that no state between two writes is wrong.
That the system has the bytes on its disk before ``add`` returns is SQLite's ``synchronous=FULL``, which
another test reads back.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.unit.gallery.files import reopen, units

TEMPLATES = 3

# One process that has paid for its imports forks those that are killed. A child says over a pipe
# what it is about to do (?) and what add or remove has returned from (+, -).
ENROL_UNTIL_KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    from tests.unit.gallery.files import reopen, templates

    path, kills, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    key = bytes.fromhex(sys.argv[4]) or None
    random.seed(7)
    for run in range(kills):
        pipe_out, pipe_in = os.pipe()
        child = os.fork()
        if child == 0:
            say = lambda word: os.write(pipe_in, (word + "\\n").encode())
            gallery = reopen(path, key=key)
            say("open")
            for i in range(10**6):
                name = f"{run}-{i}"
                say(f"? {name}")
                gallery.add(name, templates(1000 * run + i, count), {"run": run})
                say(f"+ {name}")
                if i % 5 == 4:
                    say(f"? {run}-{i - 2}")
                    gallery.remove(f"{run}-{i - 2}")
                    say(f"- {run}-{i - 2}")
        os.close(pipe_in)
        with os.fdopen(pipe_out) as said:
            # Every fifth is killed while it opens, the first of all while it makes the file.
            lines = [said.readline() for _ in range(random.randrange(2, 16) if run % 5 else 0)]
            time.sleep(random.uniform(0.0, 0.01))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            lines += said
        print(*(f"{run} {line}" for line in lines if line.endswith("\\n")), sep="", end="")
        # Two of three leave their log to the next: a reader changes nothing.
        with reopen(path, key=key, read_only=run % 3 != 0) as gallery:
            print(run, "=", *gallery.check(), *gallery.subject_ids())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes fork and SIGKILL")
@pytest.mark.parametrize("key", [None, bytes(32)], ids=["plain", "encrypted"])
@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_lose_nothing_that_was_acknowledged(
    tmp_path: Path, kills: int, key: bytes | None
) -> None:
    path = tmp_path / "staff.db"
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(ENROL_UNTIL_KILLED),
            str(path),
            str(kills),
            str(TEMPLATES),
            (key or b"").hex(),
        ],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    acknowledged: set[str] = set()
    unknown: set[str] = set()
    for line in result.stdout.splitlines():
        _, mark, *name = line.split()
        if mark == "?":
            unknown.add(name[0])  # until something says how it ended
        elif mark == "+":
            acknowledged.add(name[0])
            unknown.discard(name[0])
        elif mark == "-":
            acknowledged.discard(name[0])
            unknown.discard(name[0])
        elif mark == "=":  # what is there after a kill; no sentence of check() is among the names
            assert acknowledged - unknown <= set(name) <= acknowledged | unknown
    acknowledged -= unknown  # a removal that was under way
    assert len(acknowledged) > kills, "the kills came too early to show anything"
    assert unknown, "no kill came in the middle of an operation"

    with reopen(path, key=key) as gallery:
        assert gallery.check() == []
        enrolled = set(gallery.subject_ids())
        assert acknowledged <= enrolled
        assert enrolled - acknowledged <= unknown
        for name in enrolled:
            run, i = map(int, name.split("-"))
            subject = gallery.get(name)
            expected = units(1000 * run + i, TEMPLATES)
            assert [t.embedding.tobytes() for t in subject.templates] == [
                e.tobytes() for e in expected
            ]
            assert subject.metadata == {"run": run}
        for name in random.Random(1).sample(sorted(acknowledged), min(20, kills)):
            run, i = map(int, name.split("-"))
            found = gallery.search(units(1000 * run + i, TEMPLATES), 1, 0.999)
            assert [c[0].subject_id for c in found] == [name] * TEMPLATES
