import zipfile
from pathlib import Path

import pytest
import torch

from pex_lightning.errors import UserError
from pex_lightning.files.torch_files import load_safely


def written(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        load_safely(path)
    assert str(refused.value).startswith(str(path))
    return str(refused.value)


def test_tensors_and_plain_values_are_read_back(tmp_path: Path) -> None:
    value = {"a": torch.arange(3), "b": [1, 2.5, "three", None, {"c": True}]}
    found = load_safely(written(tmp_path / "a.pt", value))
    assert torch.equal(found.pop("a"), torch.arange(3))
    assert found == {"b": value["b"]}


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing.pt")
    assert "is not a file" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and no more"])
def test_another_kind_of_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    assert "is damaged, cut short, or no file of ours" in refusal(path)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", {"a": torch.arange(100)})
    path.write_bytes(path.read_bytes()[:-50])
    assert "cut short" in refusal(path)


def test_a_flipped_bit_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", {"a": torch.arange(100)})
    content = bytearray(path.read_bytes())
    content[content.find(torch.arange(100).numpy().tobytes()) + 8] ^= 1
    path.write_bytes(content)
    assert load_unchecked(path)["a"][1] == 0
    assert "the checksum of" in refusal(path)


def load_unchecked(path: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return loaded


def test_an_object_that_could_run_code_is_refused(tmp_path: Path) -> None:
    assert "could run code" in refusal(written(tmp_path / "a.pt", {"a": Path("/")}))


def test_an_archive_without_a_pickle_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")
    assert "cannot be read" in refusal(path)


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    whole, path = written(tmp_path / "a.pt", {"a": torch.zeros(10**6)}), tmp_path / "b.pt"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as sink:
        for entry in source.infolist():
            sink.writestr(entry.filename, source.read(entry))
    assert path.stat().st_size < 10_000
    assert load_unchecked(path)["a"].numel() == 10**6
    assert "packed in another way" in refusal(path)


def test_a_tensor_that_repeats_one_number_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", {"deep": [{"a": torch.zeros(1).expand(10**12)}]})
    assert "tensor of shape [1000000000000], which is larger than the file" in refusal(path)


def test_something_other_than_a_dict_is_refused(tmp_path: Path) -> None:
    assert "holds a list" in refusal(written(tmp_path / "a.pt", [1, 2]))
