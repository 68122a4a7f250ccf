import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pex_lightning.algorithms import load_algorithm
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.errors import UserError
from pex_lightning.handover import check_hand_over, check_resume, read_checkpoint

TAKES = frozenset(("q", "target", "v", "policy", "moments"))
HYPER = {"hidden_dims": [8, 8], "num_q": 2, "gamma": 0.99}


def altered(toy: Any, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the offline checkpoint with a change in what it holds."""
    raw = torch.load(toy.offline_path, weights_only=True)
    change(raw)
    path = toy.folder / "altered.ckpt"
    torch.save(raw, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as refused:
        read_checkpoint(path)
    assert str(path) in str(refused.value)
    return str(refused.value)


def test_a_checkpoint_is_read_back(toy: Any) -> None:
    checkpoint = read_checkpoint(str(toy.offline_path))
    header = checkpoint.header
    assert (header.algorithm, header.gradient_steps, header.env_steps) == ("IQL", 20, 0)
    assert header.data.env == toy.description().env
    assert header.data.reward == RewardTransform(shift=-1.0)
    assert header.data.dataset == "tiny"
    assert checkpoint.hyper_parameters["hidden_dims"] == [8, 8]
    critic = checkpoint.under("critic.")
    assert critic["q_net.weights.0"].shape == (2, 5, 8)
    with pytest.raises(UserError, match=r"no parameters under 'nothing\.'"):
        checkpoint.under("nothing.")


def test_a_matching_run_is_accepted(toy: Any) -> None:
    checkpoint = read_checkpoint(toy.offline_path)
    check_hand_over(checkpoint, toy.description(), TAKES, HYPER)
    hyper = {**HYPER, "hidden_dims": (8, 8), "beta": 9.0}
    check_hand_over(checkpoint, toy.description(), TAKES, hyper)


@pytest.mark.parametrize(
    ("spec", "hyper", "line"),
    [
        ({"obs_dim": 4}, {}, "observation size: 3 in the checkpoint, 4 in this run"),
        (
            {"action_low": (-1.0, -1.0)},
            {},
            "lower action bounds: (-1.0, -0.5) in the checkpoint, (-1.0, -1.0) in this run",
        ),
        (
            {"action_high": (1.0, 1.0)},
            {},
            "upper action bounds: (1.0, 2.0) in the checkpoint, (1.0, 1.0) in this run",
        ),
        (
            {"reward": RewardTransform(scale=2.0)},
            {},
            "reward transform: RewardTransform(scale=1.0, shift=-1.0) in the checkpoint, "
            "RewardTransform(scale=2.0, shift=0.0) in this run",
        ),
        ({}, {"hidden_dims": [8]}, "model.hidden_dims: [8, 8] in the checkpoint, [8] in this run"),
        ({}, {"num_q": 5}, "model.num_q: 2 in the checkpoint, 5 in this run"),
        ({}, {"gamma": 0.9}, "model.gamma: 0.99 in the checkpoint, 0.9 in this run"),
    ],
)
def test_a_mismatch_names_both_values_and_nothing_else(
    spec: dict[str, Any], hyper: dict[str, Any], line: str, toy: Any
) -> None:
    checkpoint = read_checkpoint(toy.offline_path)
    with pytest.raises(UserError) as refused:
        check_hand_over(checkpoint, toy.description(**spec), TAKES, {**HYPER, **hyper})
    lines = [text.strip() for text in str(refused.value).splitlines()]
    assert str(toy.offline_path) in lines[0]
    assert [text for text in lines if "in the checkpoint" in text] == [line]


def test_all_mismatches_are_named_at_once(toy: Any) -> None:
    checkpoint = read_checkpoint(toy.offline_path)
    with pytest.raises(UserError) as refused:
        check_hand_over(checkpoint, toy.description(obs_dim=4), TAKES, {**HYPER, "num_q": 5})
    assert str(refused.value).count("in the checkpoint") == 2


def test_another_stages_checkpoint_is_refused(toy: Any) -> None:
    trainer = toy.fit(toy.algorithm("PEX"), 5)
    path = toy.folder / "online.ckpt"
    trainer.save_checkpoint(path)
    with pytest.raises(UserError, match=r"is a checkpoint of PEX.*--ckpt_path"):
        check_hand_over(read_checkpoint(path), toy.description(), TAKES, HYPER)


def test_a_missing_file_and_a_folder_are_refused(toy: Any) -> None:
    assert "does not exist" in refusal(toy.folder / "nothing.ckpt")
    assert "not a file" in refusal(toy.folder)


def test_a_checkpoint_of_another_program_is_refused(toy: Any) -> None:
    assert "not one of pex-lightning" in refusal(altered(toy, lambda raw: raw.pop("pex_lightning")))


@pytest.mark.parametrize("key", ["state_dict", "hyper_parameters"])
def test_a_checkpoint_without_its_parts_is_refused(key: str, toy: Any) -> None:
    assert "lacks its parameters" in refusal(altered(toy, lambda raw: raw.pop(key)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, toy: Any) -> None:
    content = toy.offline_path.read_bytes()
    path = toy.folder / "cut.ckpt"
    path.write_bytes(content[: int(len(content) * share)])
    assert "cut short" in refusal(path)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02}q\x00.", b"PK\x03\x04 and no more"])
def test_a_file_that_is_no_zip_is_refused(content: bytes, toy: Any) -> None:
    path = toy.folder / "other.ckpt"
    path.write_bytes(content)
    assert "no file of ours" in refusal(path)


def test_a_list_or_a_tensor_is_no_checkpoint(toy: Any) -> None:
    path = toy.folder / "list.ckpt"
    torch.save([1, 2], path)
    assert "holds a list" in refusal(path)


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.target, "ran"))


@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "pex_lightning", "callbacks"])
def test_a_checkpoint_that_would_run_code_does_not(place: str, toy: Any) -> None:
    target = toy.folder / "ran.txt"
    path = altered(toy, lambda raw: raw[place].update(evil=Attack(target)))
    assert "could run code" in refusal(path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists(), "the attack itself works"


def test_a_bare_pickle_does_not_run_either(toy: Any) -> None:
    target = toy.folder / "ran.txt"
    path = toy.folder / "evil.ckpt"
    path.write_bytes(pickle.dumps(Attack(target)))
    refusal(path)
    assert not target.exists()


def test_an_altered_byte_is_found_by_its_checksum(toy: Any) -> None:
    content = bytearray(toy.offline_path.read_bytes())
    weights = torch.load(toy.offline_path, weights_only=True)["state_dict"][
        "critic.v_net.layers.0.bias"
    ]
    at = content.find(weights.numpy().tobytes())
    assert at > 0
    content[at] ^= 1
    path = toy.folder / "flipped.ckpt"
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    assert "checksum" in refusal(path)


def test_no_altered_byte_gives_anything_but_the_same_or_a_user_error(toy: Any) -> None:
    original = toy.offline_path.read_bytes()
    path = toy.folder / "fuzzed.ckpt"
    rng = np.random.default_rng(0)
    # The directory at the end is what a reader trusts first.
    places = [*rng.integers(0, len(original), 60), *range(len(original) - 200, len(original), 2)]
    expected = read_checkpoint(toy.offline_path).state_dict
    refused = 0
    for place in places:
        content = bytearray(original)
        content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        try:
            found = read_checkpoint(path).state_dict
        except UserError:
            refused += 1
        else:
            assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert refused > 40


def test_a_pickle_altered_with_its_checksum_is_a_user_error(toy: Any) -> None:
    with zipfile.ZipFile(toy.offline_path) as archive:
        names = archive.namelist()
        members = {name: archive.read(name) for name in names}
    (target,) = [name for name in names if name.endswith("data.pkl")]
    rng = np.random.default_rng(1)
    path = toy.folder / "fuzzed.ckpt"
    for _ in range(150):
        content = bytearray(members[target])
        content[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name in names:
                archive.writestr(name, bytes(content) if name == target else members[name])
        path.write_bytes(stream.getvalue())
        try:
            load_algorithm(read_checkpoint(path))
        except UserError:
            continue


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_parameter_is_named(value: float, toy: Any) -> None:
    def spoil(raw: dict[str, Any]) -> None:
        raw["state_dict"]["critic.v_net.layers.0.bias"][2] = value

    message = refusal(altered(toy, spoil))
    assert "critic.v_net.layers.0.bias" in message
    assert "not a finite tensor" in message


@pytest.mark.parametrize("count", ["x", {}, None, -1, 0.5, True])
@pytest.mark.parametrize("place", ["batch_progress", "manual_optimization.optim_step_progress"])
def test_what_loops_have_counted_is_looked_at_before_a_resume(
    count: object, place: str, toy: Any
) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["loops"]["fit_loop"][f"epoch_loop.{place}"]["current"]["ready"] = count

    assert read_checkpoint(toy.offline_path).resumable
    changed = read_checkpoint(altered(toy, change))
    assert not changed.resumable
    with pytest.raises(UserError, match="was saved without it, or was altered"):
        check_resume(changed, "IQL", changed.hyper_parameters, {})


def test_an_unknown_format_names_both_versions(toy: Any) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["pex_lightning"].update(format=7, version="9.9.9")

    message = refusal(altered(toy, change))
    assert "format 7" in message
    assert "'9.9.9'" in message
    assert "reads formats up to 2" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("gradient_steps"),
        lambda header: header.update(gradient_steps="many"),
        lambda header: header.update(data=None),
        lambda header: header["data"].update(env=[]),
        lambda header: header["data"]["env"].pop("obs_dim"),
        lambda header: header["data"].update(reward={"scale": 0.0, "shift": 0.0}),
        lambda header: header["data"].update(reward=3),
    ],
)
def test_a_damaged_header_is_refused(change: Callable[[dict[str, Any]], object], toy: Any) -> None:
    path = altered(toy, lambda raw: change(raw["pex_lightning"]))
    with pytest.raises(UserError):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["state_dict"].pop("policy.log_std"),
        lambda raw: raw["state_dict"].update(extra=torch.zeros(1)),
        lambda raw: raw["hyper_parameters"].update(hidden_dims=[9, 8]),
        lambda raw: raw["hyper_parameters"].update(unknown=1),
        lambda raw: raw["hyper_parameters"].update(expectile="high"),
        lambda raw: raw["hyper_parameters"].update(expectile=2.0),
        lambda raw: raw["pex_lightning"].update(algorithm="os.system"),
        lambda raw: raw["pex_lightning"]["data"]["env"].update(action_low=[9.0, 9.0]),
    ],
)
def test_parameters_that_do_not_fit_their_description_are_refused(
    change: Callable[[dict[str, Any]], object], toy: Any
) -> None:
    with pytest.raises(UserError):
        load_algorithm(read_checkpoint(altered(toy, change)))


def test_resume_accepts_the_same_settings(toy: Any) -> None:
    checkpoint = read_checkpoint(toy.offline_path)
    check_resume(checkpoint, "IQL", toy.algorithm("IQL", hidden_dims=(8, 8)).hparams, {})


def test_resume_of_another_algorithm_is_refused(toy: Any) -> None:
    checkpoint = read_checkpoint(toy.offline_path)
    with pytest.raises(UserError, match=r"checkpoint of IQL, but this stage trains PEX"):
        check_resume(checkpoint, "PEX", toy.algorithm("PEX").hparams, {})


def test_resume_with_other_settings_names_each_with_both_values(toy: Any) -> None:
    checkpoint = read_checkpoint(toy.offline_path)
    settings = toy.algorithm("IQL", expectile=0.9, hidden_dims=[16]).hparams
    with pytest.raises(UserError) as refused:
        check_resume(checkpoint, "IQL", settings, {})
    lines = [text.strip() for text in str(refused.value).splitlines()]
    assert lines[1:3] == [
        "model.expectile: 0.7 in the checkpoint, 0.9 in this run",
        "model.hidden_dims: [8, 8] in the checkpoint, [16] in this run",
    ]
    assert str(refused.value).count("in the checkpoint") == 2
