import pytest
import torch

from pex_lightning.nn.critic import Critic
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.policies.acting import ActingPolicy, Choice, SinglePolicy
from pex_lightning.policies.admission import Admission
from pex_lightning.policies.choice import Boltzmann, EpsilonGreedy
from pex_lightning.policies.composite import CompositePolicy
from pex_lightning.policies.policy_set import PolicySet
from pex_lightning.policies.values import CriticValues

LOW, HIGH = (-1.0, -0.5), (1.0, 2.0)
STATES = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))


def policy() -> GaussianPolicy:
    return GaussianPolicy(3, LOW, HIGH, [8])


def composite(
    *, frozen: int = 1, num_q: int = 2, inv_temperature: float = 3.0, eval_epsilon: float = 0.1
) -> CompositePolicy:
    names = [*(f"frozen {number}" for number in range(frozen)), "learner"]
    policies = PolicySet([policy() for _ in range(frozen)], policy(), names)
    rule = Admission(Boltzmann(inv_temperature))
    return CompositePolicy(policies, CriticValues(Critic(3, 2, [8], num_q)), rule, eval_epsilon)


def choice_probs(acting: CompositePolicy, candidates: torch.Tensor) -> torch.Tensor:
    return acting.rule.probs(acting.values(STATES, candidates))


def act(acting: ActingPolicy, states: torch.Tensor = STATES) -> Choice:
    return acting.act(states, acting.initial_memory(states))


def evaluated(acting: ActingPolicy, states: torch.Tensor = STATES) -> torch.Tensor:
    return acting.evaluation_action(states, acting.initial_memory(states))[0]


def inside(actions: torch.Tensor) -> bool:
    return bool(((actions >= torch.tensor(LOW)) & (actions <= torch.tensor(HIGH))).all())


def test_frozen_members_require_no_gradient_and_the_learner_does() -> None:
    policies = PolicySet([policy(), policy()], policy(), ["a", "b", "c"])
    assert len(policies) == 3
    assert not any(p.requires_grad for p in policies.frozen.parameters())
    assert all(p.requires_grad for p in policies.learner.parameters())


def test_frozen_members_propose_modes_and_the_learner_samples() -> None:
    policies = composite(frozen=2).policies
    first, second = policies.candidates(STATES), policies.candidates(STATES)
    modes = policies.modes(STATES)
    assert first.shape == (3, 400, 2)
    assert torch.equal(first[:2], modes[:2])
    assert torch.equal(second[:2], modes[:2])
    assert not torch.isclose(first[2], modes[2]).all(-1).any()
    assert not torch.equal(first[2], second[2])


def test_candidates_stay_inside_the_action_space() -> None:
    policies = composite().policies
    with torch.no_grad():
        policies.learner.log_std.fill_(2.0)
    assert inside(policies.candidates(STATES))


@pytest.mark.parametrize("num_q", [1, 2, 5])
@pytest.mark.parametrize("frozen", [1, 2])
def test_the_choice_is_boltzmann_on_the_smallest_q(frozen: int, num_q: int) -> None:
    acting = composite(frozen=frozen, num_q=num_q)
    candidates = acting.policies.candidates(STATES)
    q = torch.stack([acting.values.critic.q(STATES, action).amin(0) for action in candidates], -1)
    expected = torch.softmax(3.0 * q, -1)
    torch.testing.assert_close(choice_probs(acting, candidates), expected)


def test_the_choice_asks_the_online_critic_and_not_its_target() -> None:
    acting = composite(inv_temperature=10.0)
    candidates = acting.policies.candidates(STATES)
    before = choice_probs(acting, candidates)
    with torch.no_grad():
        for parameter in acting.values.critic.target_q_net.parameters():
            parameter.normal_()
    assert torch.equal(choice_probs(acting, candidates), before)
    with torch.no_grad():
        for parameter in acting.values.critic.q_net.parameters():
            parameter.normal_()
    assert not torch.allclose(choice_probs(acting, candidates), before)


def test_an_act_is_one_of_the_candidates_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    acting = composite(frozen=2)
    candidates = acting.policies.candidates(STATES)
    monkeypatch.setattr(acting.policies, "candidates", lambda _: candidates)
    choice = act(acting)
    assert choice.choice_probs.shape == (400, 3)
    assert set(choice.policy_index.tolist()) == {0, 1, 2}
    for row, index in enumerate(choice.policy_index.tolist()):
        assert torch.equal(choice.action[row], candidates[index, row])
    assert torch.equal(choice.choice_probs, choice_probs(acting, candidates))
    assert not choice.action.requires_grad


def values(acting: CompositePolicy, candidates: torch.Tensor) -> torch.Tensor:
    return torch.stack([acting.values.critic.q(STATES, action).amin(0) for action in candidates])


@pytest.mark.parametrize("admission", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("frozen", [1, 2, 3])
def test_admission_mixes_a_choice_of_the_frozen_with_one_of_all(
    frozen: int, admission: float
) -> None:
    acting = composite(frozen=frozen)
    acting.rule.share.fill_(admission)
    candidates = acting.policies.candidates(STATES)
    q = values(acting, candidates)
    every = Boltzmann(3.0).probs(q)
    alone = torch.zeros(400, frozen + 1)
    alone[:, :-1] = Boltzmann(3.0).probs(q[:-1])
    probs = choice_probs(acting, candidates)
    torch.testing.assert_close(probs, (1 - admission) * alone + admission * every)
    torch.testing.assert_close(probs.sum(-1), torch.ones(400))
    torch.testing.assert_close(probs[:, -1], admission * every[:, -1])
    if admission == 1.0:
        assert torch.equal(probs, every)
    if admission == 0.0:
        assert (probs[:, -1] == 0).all()


@pytest.mark.parametrize("frozen", [1, 2])
def test_a_learner_that_is_not_admitted_never_acts(frozen: int) -> None:
    acting = composite(frozen=frozen, inv_temperature=0.0, eval_epsilon=0.5)
    acting.rule.share.fill_(0.0)
    modes = acting.policies.modes(STATES)[:-1]
    choice = act(acting)
    assert set(choice.policy_index.tolist()) == set(range(frozen))
    for action in (choice.action, evaluated(acting)):
        assert (action == modes).all(-1).any(0).all()
    acting.rule.share.fill_(1.0)
    for action in (act(acting).action, evaluated(acting)):
        assert not (action == modes).all(-1).any(0).all()


def test_half_admitted_half_of_the_evaluations_choices_are_among_all() -> None:
    acting = composite(eval_epsilon=0.0)
    modes = acting.policies.modes(STATES)
    better = values(acting, modes).argmax(0) == 1
    assert 40 < better.sum() < 360
    acting.rule.share.fill_(0.5)
    taken = torch.stack([evaluated(acting) for _ in range(50)])
    learner = (taken == modes[1]).all(-1)
    assert not learner[:, ~better].any()
    assert learner[:, better].float().mean() == pytest.approx(0.5, abs=0.05)


def test_a_greedy_composite_takes_the_better_candidate() -> None:
    acting = composite(inv_temperature=1e6)
    choice = act(acting)
    assert torch.equal(choice.policy_index, choice.choice_probs.argmax(-1))
    assert set(choice.policy_index.tolist()) == {0, 1}


def test_eval_epsilon_zero_is_the_greedy_choice_between_modes() -> None:
    acting = composite(eval_epsilon=0.0)
    modes = acting.policies.modes(STATES)
    q = torch.stack([acting.values.critic.q(STATES, action).amin(0) for action in modes])
    expected = modes[q.argmax(0), torch.arange(400)]
    for _ in range(2):
        assert torch.equal(evaluated(acting), expected)


def test_eval_epsilon_one_samples_the_learner_and_the_choice() -> None:
    acting = composite(eval_epsilon=1.0, inv_temperature=0.0)
    modes = acting.policies.modes(STATES)
    action = evaluated(acting)
    frozen = (action == modes[0]).all(-1)
    # A uniform choice: half of 400, give or take four standard errors.
    assert abs(int(frozen.sum()) - 200) < 40
    assert not (action == modes[1]).all(-1).any()
    assert inside(action)


def test_eval_epsilon_is_the_share_of_samples() -> None:
    acting = composite(eval_epsilon=0.1, inv_temperature=1e6)
    states = STATES.repeat(20, 1)
    greedy = evaluated(CompositePolicy(acting.policies, acting.values, acting.rule, 0.0), states)
    learner = (greedy == acting.policies.modes(states)[1]).all(-1)
    moved = (evaluated(acting, states) != greedy).any(-1)
    # Where the learner's mode wins its samples do not always; elsewhere a sample may win.
    assert moved.float().mean() < 0.12
    assert moved[learner].float().mean() == pytest.approx(0.1, abs=0.025)


def test_what_the_optimiser_changes_is_in_effect_at_once() -> None:
    acting = composite(eval_epsilon=0.0, inv_temperature=1e6)
    before = evaluated(acting)
    with torch.no_grad():
        for parameter in acting.values.critic.q_net.parameters():
            parameter.neg_()
    assert not torch.equal(evaluated(acting), before)


def test_a_single_policy_samples_to_collect_and_evaluates_its_mode() -> None:
    member = policy()
    single = SinglePolicy(member)
    choice = act(single)
    assert inside(choice.action)
    assert not torch.equal(choice.action, act(single).action)
    assert choice.policy_index.tolist() == [0] * 400
    assert choice.choice_probs.tolist() == [[1.0]] * 400
    assert torch.equal(evaluated(single), member.mode(STATES))


def test_a_frozen_member_has_the_sizes_of_the_policy_that_it_is() -> None:
    other = GaussianPolicy(3, LOW, HIGH, [16, 4])
    policies = PolicySet([policy()], policy())
    policies.set_frozen(0, other.state_dict())
    assert torch.equal(policies.modes(STATES)[0], other.mode(STATES))
    assert not any(p.requires_grad for p in policies.frozen.parameters())
    loaded = PolicySet([policy()], policy())
    loaded.load_state_dict(policies.state_dict())
    assert torch.equal(loaded.modes(STATES), policies.modes(STATES))
    assert not any(p.requires_grad for p in loaded.frozen.parameters())


@pytest.mark.parametrize("member", [0, 1, 2])
def test_a_member_alone_is_evaluated_by_its_mode(member: int) -> None:
    acting = composite(frozen=2)
    torch.testing.assert_close(acting.alone(member)(STATES), acting.policies.modes(STATES)[member])


@pytest.mark.parametrize("filled", [False, True])
def test_a_place_for_a_member_to_come_acts_and_is_told_of_once_it_is_filled(filled: bool) -> None:
    policies = PolicySet([policy(), policy()], policy(), ("old", "place", "new"), places=1)
    values = CriticValues(Critic(3, 2, [8], 2))
    acting = CompositePolicy(policies, values, Admission(Boltzmann(0.0)), 0.1)
    if filled:
        policies.fill(0, policy().state_dict())
    assert (acting.alone(1) is not None) == filled
    found = acting.diagnose(STATES)
    assert ("q/place" in found) == filled
    assert found["choice_entropy_fraction"].item() == pytest.approx(1.0)


def test_a_policy_of_one_has_nobody_who_could_act_alone_and_nothing_to_diagnose() -> None:
    single = SinglePolicy(policy())
    assert single.alone(0) is None
    assert single.diagnose(STATES) == {}


def test_a_composite_policy_of_three_tells_of_each_candidate_and_of_admission() -> None:
    acting = composite(frozen=2)
    acting.rule.share.fill_(0.25)
    found = acting.diagnose(STATES)
    assert set(found) == {
        "q/frozen 0",
        "q/frozen 1",
        "q/learner",
        "admitted",
        "choice_entropy_fraction",
    }
    assert all(value.shape == () and not value.requires_grad for value in found.values())
    modes = acting.policies.modes(STATES)
    torch.testing.assert_close(found["q/frozen 1"], acting.values(STATES, modes)[1].mean())
    assert found["admitted"] == 0.25


def test_without_admission_all_are_admitted() -> None:
    acting = composite()
    acting.rule = EpsilonGreedy(0.1)
    assert acting.diagnose(STATES)["admitted"] == 1.0
