from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict

from pex_lightning.errors import UserError
from pex_lightning.replay.store import (
    Segment,
    read_segments,
    remove_unlisted,
    write_segment,
)


def rows(start: int, stop: int) -> TensorDict:
    number = torch.arange(start, stop, dtype=torch.float32)[:, None]
    return TensorDict(
        {
            "observation": number,
            "policy_index": number[:, 0].long(),
            "next": {"observation": number + 0.5, "terminated": number.long() % 2 == 0},
        },
        batch_size=[stop - start],
    )


def same(first: TensorDict, second: TensorDict) -> bool:
    keys = set(first.keys(include_nested=True, leaves_only=True))
    equal = keys == set(second.keys(include_nested=True, leaves_only=True))
    return equal and all(
        torch.equal(first[key], second[key]) and first[key].dtype == second[key].dtype
        for key in keys
    )


def test_segments_are_read_back_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "rank-0"
    segments = [write_segment(folder, rows(*span), span[0]) for span in ((0, 4), (4, 5), (5, 11))]
    assert [(s.start, s.stop) for s in segments] == [(0, 4), (4, 5), (5, 11)]
    found = read_segments(folder, [Segment.from_dict(s.to_dict()) for s in segments])
    assert found is not None
    assert found.batch_size == (11,)
    assert same(found, rows(0, 11))
    assert read_segments(folder, []) is None


def test_the_same_rows_written_again_do_not_replace_the_file(tmp_path: Path) -> None:
    first, second = (write_segment(tmp_path, rows(0, 4), 0) for _ in range(2))
    assert first.file != second.file
    assert len(list(tmp_path.iterdir())) == 2


def test_unlisted_segments_and_interrupted_writes_are_removed_and_nothing_else(
    tmp_path: Path,
) -> None:
    keep, drop = (write_segment(tmp_path, rows(start, start + 2), start) for start in (0, 2))
    (tmp_path / f".{drop.file}.part").touch()
    (tmp_path / "notes.txt").touch()
    remove_unlisted(tmp_path, {keep.file})
    assert {path.name for path in tmp_path.iterdir()} == {keep.file, "notes.txt"}
    remove_unlisted(tmp_path / "absent", set())


def test_a_write_that_fails_leaves_no_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(value: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        write_segment(tmp_path, rows(0, 4), 0)
    assert not list(tmp_path.glob("rows-*"))


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, rows(0, 4), 0)
    (tmp_path / segment.file).unlink()
    with pytest.raises(UserError, match=rf"{segment.file}.*not there"):
        read_segments(tmp_path, [segment])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def not_columns(path: Path) -> None:
    torch.save([1, 2], path)


def other_length(path: Path) -> None:
    torch.save({"observation": torch.zeros(3, 1)}, path)


def unsafe(path: Path) -> None:
    torch.save({"observation": Path("/")}, path)


def not_tensors(path: Path) -> None:
    torch.save({1: torch.zeros(4, 1)}, path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "is damaged, cut short, or no file of ours"),
        (not_columns, "holds a list"),
        (other_length, "does not hold 4 rows"),
        (unsafe, "could run code"),
        (not_tensors, "does not hold 4 rows"),
    ],
)
def test_a_damaged_segment_is_a_user_error(damage: Any, says: str, tmp_path: Path) -> None:
    segment = write_segment(tmp_path, rows(0, 4), 0)
    damage(tmp_path / segment.file)
    with pytest.raises(UserError, match=rf"{segment.file}.*{says}"):
        read_segments(tmp_path, [segment])


def test_an_altered_number_is_found_by_its_checksum(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, rows(0, 4), 0)
    path = tmp_path / segment.file
    content = bytearray(path.read_bytes())
    content[content.find(rows(0, 4)["observation"].numpy().tobytes()) + 6] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{segment.file}.*checksum"):
        read_segments(tmp_path, [segment])


def test_a_segments_file_stays_in_its_folder() -> None:
    raw = Segment("rows-0.pt", 0, 4).to_dict()
    assert Segment.from_dict({**raw, "file": "/etc/../passwd"}) == replace(
        Segment.from_dict(raw), file="passwd"
    )


@pytest.mark.parametrize("change", ["key", "width"])
def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path, change: str) -> None:
    other = rows(4, 8)
    if change == "key":
        del other["policy_index"]
    else:
        other["observation"] = other["observation"].expand(4, 2).clone()
    segments = [write_segment(tmp_path, rows(0, 4), 0), write_segment(tmp_path, other, 4)]
    with pytest.raises(UserError, match="do not fit together"):
        read_segments(tmp_path, segments)
