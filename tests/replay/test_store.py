from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict

from pex_lightning.errors import UserError
from pex_lightning.replay.layout import RowSizes
from pex_lightning.replay.store import (
    Segment,
    read_manifest,
    read_segments,
    remove_unlisted,
    write_segment,
)

SIZES = RowSizes(observation=1, action=2, members=2)


def rows(start: int, stop: int) -> TensorDict:
    number = torch.arange(start, stop, dtype=torch.float32)[:, None]
    return TensorDict(
        {
            "observation": number,
            "action": number.expand(-1, 2) / 2,
            "policy_index": number[:, 0].long() % 2,
            "choice_probs": torch.full((stop - start, 2), 0.5),
            "next": {
                "observation": number + 0.5,
                "reward": -number,
                "done": number.long() % 2 == 0,
                "terminated": number.long() % 2 == 0,
                "truncated": torch.zeros(stop - start, 1, dtype=torch.bool),
            },
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
    segments = [
        write_segment(folder, rows(*span), span[0], SIZES) for span in ((0, 4), (4, 5), (5, 11))
    ]
    assert [(s.start, s.stop) for s in segments] == [(0, 4), (4, 5), (5, 11)]
    found = read_segments(folder, [Segment.from_dict(s.to_dict()) for s in segments], SIZES)
    assert found is not None
    assert found.batch_size == (11,)
    assert same(found, rows(0, 11))
    assert read_segments(folder, [], SIZES) is None


def test_the_same_rows_written_again_do_not_replace_the_file(tmp_path: Path) -> None:
    first, second = (write_segment(tmp_path, rows(0, 4), 0, SIZES) for _ in range(2))
    assert first.file != second.file
    assert len(list(tmp_path.iterdir())) == 2


def test_unlisted_segments_and_interrupted_writes_are_removed_and_nothing_else(
    tmp_path: Path,
) -> None:
    keep, drop = (write_segment(tmp_path, rows(start, start + 2), start, SIZES) for start in (0, 2))
    (tmp_path / f".{drop.file}.part").touch()
    (tmp_path / "notes.txt").touch()
    remove_unlisted(tmp_path, {keep.file})
    assert {path.name for path in tmp_path.iterdir()} == {keep.file, "notes.txt"}
    remove_unlisted(tmp_path / "absent", set())


def test_a_write_that_fails_leaves_no_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        write_segment(tmp_path, rows(0, 4), 0, SIZES)
    assert not list(tmp_path.glob("rows-*"))


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, rows(0, 4), 0, SIZES)
    (tmp_path / segment.file).unlink()
    with pytest.raises(UserError, match=rf"{segment.file}.*not there"):
        read_segments(tmp_path, [segment], SIZES)


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
        (other_length, "it holds observation, expected"),
        (unsafe, "could run code"),
        (not_tensors, "it holds 1, expected"),
    ],
)
def test_a_damaged_segment_is_a_user_error(damage: Any, says: str, tmp_path: Path) -> None:
    segment = write_segment(tmp_path, rows(0, 4), 0, SIZES)
    damage(tmp_path / segment.file)
    with pytest.raises(UserError, match=rf"{segment.file}.*{says}"):
        read_segments(tmp_path, [segment], SIZES)


def test_an_altered_number_is_found_by_its_checksum(tmp_path: Path) -> None:
    segment = write_segment(tmp_path, rows(0, 4), 0, SIZES)
    path = tmp_path / segment.file
    content = bytearray(path.read_bytes())
    content[content.find(rows(0, 4)["observation"].numpy().tobytes()) + 6] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{segment.file}.*checksum"):
        read_segments(tmp_path, [segment], SIZES)


def test_a_segments_file_stays_in_its_folder() -> None:
    raw = Segment("rows-0.pt", 0, 4).to_dict()
    for file in ("/etc/passwd", "../rows-0.pt", "rows-0.pt\0", "", ".."):
        with pytest.raises(ValueError, match="is no name of a part"):
            Segment.from_dict({**raw, "file": file})


def changed(**columns: Any) -> Any:
    def damage(path: Path) -> None:
        stored = torch.load(path, weights_only=True)
        for key, change in columns.items():
            stored[key.replace("__", "/")] = change(stored[key.replace("__", "/")])
        torch.save({key: value for key, value in stored.items() if value is not None}, path)

    return damage


def first(number: float) -> Any:
    def change(value: torch.Tensor) -> torch.Tensor:
        value.view(-1)[0] = number
        return value

    return change


def test_rows_that_could_not_be_read_again_are_not_written(tmp_path: Path) -> None:
    odd = rows(0, 4)
    odd["action"][2] = torch.nan
    with pytest.raises(UserError, match=r"cannot be kept in .*: action has NaN or infinity"):
        write_segment(tmp_path / "rank-0", odd, 0, SIZES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (changed(action=lambda old: None), "it holds .*, expected observation, action"),
        (changed(observation=first(torch.nan)), "observation has NaN"),
        (changed(action=first(torch.inf)), "action has NaN or infinity"),
        (changed(next__reward=first(-torch.inf)), "next/reward has NaN or infinity"),
        (changed(observation=lambda old: old.double()), r"torch.float64 .*expected torch.float32"),
        (
            changed(observation=lambda old: old.expand(4, 2).clone()),
            r"\[4, 2\], expected .*\[4, 1\]",
        ),
        (changed(observation=lambda old: old[:3].clone()), r"\[3, 1\], expected .*\[4, 1\]"),
        (changed(policy_index=lambda old: old[:, None]), r"policy_index .*\[4, 1\]"),
        (changed(policy_index=first(-1)), "policy_index is beyond the 2 members"),
        (changed(policy_index=first(2)), "policy_index is beyond the 2 members"),
        (changed(choice_probs=first(-0.5)), "choice_probs are no probabilities"),
        (changed(next__done=lambda old: ~old), "next/done differs"),
        (changed(next__terminated=lambda old: old.byte()), "torch.uint8"),
        (changed(action=lambda old: torch.zeros(1, 1).expand(4, 2)), "fewer numbers"),
        (changed(action=lambda old: old.to_sparse()), "action is not an array"),
        (changed(action=lambda old: old.tolist()), "action is not an array"),
        (changed(action=lambda old: old.to("meta")), "action"),
    ],
)
def test_rows_that_no_run_writes_are_refused(damage: Any, says: str, tmp_path: Path) -> None:
    segment = write_segment(tmp_path, rows(0, 4), 0, SIZES)
    damage(tmp_path / segment.file)
    with pytest.raises(UserError, match=rf"{segment.file}.*{says}"):
        read_segments(tmp_path, [segment], SIZES)


GOOD = {
    "collected": 9,
    "replay": [
        [{"file": "rows-0.pt", "start": 0, "stop": 4}, {"file": "rows-1.pt", "start": 4, "stop": 9}]
    ],
}


def part(**values: Any) -> dict[str, Any]:
    return {"replay": [[{"file": "rows-0.pt", "start": 0, "stop": 9, **values}]]}


def test_a_manifest_is_read() -> None:
    expected = [[Segment("rows-0.pt", 0, 4), Segment("rows-1.pt", 4, 9)]]
    assert read_manifest(GOOD, Path("c")) == expected
    assert read_manifest({"collected": 0, "replay": [[]]}, Path("c")) == [[]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"replay": None}, "saved without its replay buffer"),
        ({"replay": 5}, "cannot be read"),
        ({"replay": "rows"}, "cannot be read"),
        ({"replay": [5]}, "cannot be read"),
        ({"replay": [[[]]]}, "cannot be read"),
        ({"replay": {0: []}}, "cannot be read"),
        (part(file=5), "no name of a part"),
        (part(file="../rows-0.pt"), "no name of a part"),
        (part(start="0"), "rows '0' to 9"),
        (part(start=-1), "rows -1 to 9"),
        (part(start=False), "rows False to 9"),
        (part(stop=9.0), "to 9.0"),
        (part(start=9), "rows 9 to 9"),
        (part(stop=10**30), "not at 9"),
        ({"collected": 8}, "end at 9, not at 8"),
        ({"collected": "9"}, "'9' rows were collected"),
        ({"collected": -1}, "-1 rows were collected"),
        ({"collected": 9.0}, "9.0 rows were collected"),
        (
            {"replay": [[*GOOD["replay"][0][:1], {"file": "rows-1.pt", "start": 5, "stop": 9}]]},
            "4 to 5",
        ),
    ],
)
def test_a_damaged_manifest_is_refused(changes: Any, says: str) -> None:
    with pytest.raises(UserError, match=rf"some\.ckpt.*{says}"):
        read_manifest({**GOOD, **changes}, Path("some.ckpt"))


@pytest.mark.parametrize("state", [None, 5, [], {}, {"replay": []}, "replay"])
def test_what_is_no_state_has_no_manifest(state: Any) -> None:
    with pytest.raises(UserError, match="list of its parts is missing"):
        read_manifest(state, Path("some.ckpt"))
