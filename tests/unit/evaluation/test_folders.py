"""A folder with a folder of images for each subject."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.privileges import allow_all_users, without_privileges
from tests.unit.evaluation.made import touch
from verifykit.datasets import LabelledImage
from verifykit.errors import InputError
from verifykit.evaluation.pairs import read_data


def test_subjects_are_the_first_level_and_images_may_lie_deeper(tmp_path: Path) -> None:
    touch(tmp_path, "bert/1.jpg", "anna/2019/a.PNG", "anna/b.webp", "čeněk ž/1.jpg")
    data = read_data(tmp_path)
    assert (data.source, data.kind, data.pairs) == (tmp_path, "folder", None)
    assert data.images == tuple(
        LabelledImage(tmp_path / name, name, name.split("/")[0])
        for name in ("anna/2019/a.PNG", "anna/b.webp", "bert/1.jpg", "čeněk ž/1.jpg")
    )
    assert data.subjects == ("anna", "bert", "čeněk ž")
    assert not any(image.is_forgery or image.groups for image in data.images)


def test_hidden_files_and_files_that_are_no_images_do_not_count(tmp_path: Path) -> None:
    touch(tmp_path, "anna/1.jpg", "anna/2.jpg", "bert/1.jpg", "notes.txt", "anna/notes.txt")
    touch(tmp_path, ".hidden.jpg", "anna/._1.jpg", ".cache/3.jpg", "anna/.thumbs/4.jpg")
    data = read_data(tmp_path)
    assert [image.name for image in data.images] == ["anna/1.jpg", "anna/2.jpg", "bert/1.jpg"]
    assert data.left_out == {"hidden": 4, "not_an_image": 2}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images: give a folder with a folder for each subject"),
        (["anna/notes.txt"], "holds no images"),
        (["anna/1.jpg", "anna/2.jpg", "loose.jpg"], "holds the image 'loose.jpg' itself"),
        (["anna/1.jpg", "anna/2.jpg"], r"1 subject\(s\), 'anna', which gives no non-mated"),
        (["anna/1.jpg", "bert/1.jpg"], "2 subjects with one image each, which gives no mated"),
    ],
)
def test_a_folder_that_gives_no_comparison(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=f"{re.escape(repr(str(tmp_path)))} .*{message}"):
        read_data(tmp_path)


def test_a_link_to_a_folder_is_refused_and_not_left_out(tmp_path: Path) -> None:
    data = touch(tmp_path / "data", "anna/1.jpg", "anna/2.jpg", "bert/1.jpg")
    elsewhere = touch(tmp_path / "elsewhere", "1.jpg")
    (data / "anna" / "linked.jpg").symlink_to(elsewhere / "1.jpg")
    (data / ".hidden").symlink_to(elsewhere)
    assert len(read_data(data).images) == 4
    (data / "bert" / "more").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"'bert/more' in .* is a link to a folder"):
        read_data(data)
    (data / "bert" / "more").unlink()
    (tmp_path / "link").symlink_to(data)
    assert read_data(tmp_path / "link").images[0].path == tmp_path / "link" / "anna" / "1.jpg"


def test_a_closed_folder_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "anna/1.jpg", "anna/2.jpg", "bert/1.jpg")
    (tmp_path / "bert").chmod(0)
    allow_all_users(tmp_path)
    try:
        with without_privileges(), pytest.raises(InputError, match="bert' cannot be read"):
            read_data(tmp_path)
    finally:
        (tmp_path / "bert").chmod(0o755)


def test_a_folder_has_its_images_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "anna/1.jpg", "anna/2.jpg", "bert/1.jpg")
    with pytest.raises(InputError, match="goes with a CSV file"):
        read_data(tmp_path, images=tmp_path)
