"""What a list is refused for, whatever it lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.privileges import allow_all_users, without_privileges
from tests.unit.evaluation.made import touch
from verifykit.errors import InputError, shown
from verifykit.evaluation.pairs import read_data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,person|a,b", r"has the columns path, person; accepted are path,subject\[,label\]"),
        (
            "path;subject|a;b",
            "has the columns path;subject; accepted are .* and probe,reference,mated",
        ),
        ("path,subject,probe,reference,mated|a,b,c,d,1", "accepted are"),
        ("path,subject", "has a header and no rows"),
        ("probe,reference,mated", "has a header and no rows"),
        ("", "is empty: a CSV file begins with"),
        ("||", "is empty: a CSV file begins with"),
        ("path,subject,|a,b,c", "line 1: column 3 has no name"),
        ("|path,subject,Path|a,b,c", "line 2: column 'path' is there twice"),
        ("path,subject,age,age|a,b,c,d", "line 1: column 'age' is there twice"),
        (
            'path,subject|a1.png,a|"a,2.png",a|a,3.png,a',
            "line 4: 3 cells, and the header names 2 columns: correct the row 'a,3.png,a'",
        ),
        ("path,subject|a1.png,a||a2.png", "line 4: 1 cells"),
        ('path,subject|"a|1.png",a|a2.png', "line 4: 1 cells"),
        ('path,subject|a1.png,a|"a2.png,a|b1.png,b', "line 3: the row that begins here is not CSV"),
        ('path,subject|a"1".png,a|"a"2,b', "line 3: the row that begins here is not CSV"),
        (
            f"path,subject|{'a' * 200_000},b",
            "line 2: the row that begins here is not CSV: field larger",
        ),
        ("path,subject|a1.png,a|a\0.png,a", "line 3: there is a NUL character"),
    ],
)
def test_a_file_that_is_no_such_csv(tmp_path: Path, text: str, message: str) -> None:
    path = touch(tmp_path, "a1.png") / "data.csv"
    path.write_text(text.replace("|", "\n"), encoding="utf-8")
    with pytest.raises(InputError, match=f"{re.escape(shown(str(path)))}.*{message}"):
        read_data(path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    for name in ("data.csv", "pairs.txt"):
        path = tmp_path / name
        path.write_bytes("path,subject\nžofie.png,a\n".encode("cp1250"))
        with pytest.raises(InputError, match=f"{name}', line 2: byte 0x9e is not UTF-8"):
            read_data(path)


def test_a_file_that_is_closed(tmp_path: Path) -> None:
    path = touch(tmp_path, "data.csv") / "data.csv"
    path.chmod(0)
    allow_all_users(tmp_path)
    with without_privileges(), pytest.raises(InputError, match=r"data\.csv' cannot be read: Perm"):
        read_data(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_end_of_line_will_do(tmp_path: Path, end: str) -> None:
    touch(tmp_path, "a/a_0001.jpg")
    lists = {
        "data.csv": ("path,subject", "a/a_0001.jpg,a", "2.jpg,a", "3.jpg,b"),
        "pairs.txt": ("1", "a\t1\t2", "a\t1\tb\t3"),
    }
    for name, lines in lists.items():
        (tmp_path / name).write_bytes("".join(line + end for line in lines).encode())
        data = read_data(tmp_path / name)
        assert [image.subject for image in data.images] == ["a", "a", "b"]
