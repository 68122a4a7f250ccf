import pytest
import torch

from pex_lightning.nn.critic import Critic
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.policies.choice import boltzmann_probs
from pex_lightning.policies.policy_set import CompositePolicy, PolicySet, SinglePolicy

LOW, HIGH = (-1.0, -0.5), (1.0, 2.0)
STATES = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))


def policy() -> GaussianPolicy:
    return GaussianPolicy(3, LOW, HIGH, [8])


def composite(
    *, frozen: int = 1, num_q: int = 2, inv_temperature: float = 3.0, eval_epsilon: float = 0.1
) -> CompositePolicy:
    policies = PolicySet([policy() for _ in range(frozen)], policy())
    return CompositePolicy(policies, Critic(3, 2, [8], num_q), inv_temperature, eval_epsilon)


def inside(actions: torch.Tensor) -> bool:
    return bool(((actions >= torch.tensor(LOW)) & (actions <= torch.tensor(HIGH))).all())


def test_frozen_members_require_no_gradient_and_the_learner_does() -> None:
    policies = PolicySet([policy(), policy()], policy())
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
    q = torch.stack([acting.critic.q(STATES, action).amin(0) for action in candidates], -1)
    expected = torch.softmax(3.0 * q, -1)
    torch.testing.assert_close(acting.choice_probs(STATES, candidates), expected)


def test_the_choice_asks_the_online_critic_and_not_its_target() -> None:
    acting = composite(inv_temperature=10.0)
    candidates = acting.policies.candidates(STATES)
    before = acting.choice_probs(STATES, candidates)
    with torch.no_grad():
        for parameter in acting.critic.target_q_net.parameters():
            parameter.normal_()
    assert torch.equal(acting.choice_probs(STATES, candidates), before)
    with torch.no_grad():
        for parameter in acting.critic.q_net.parameters():
            parameter.normal_()
    assert not torch.allclose(acting.choice_probs(STATES, candidates), before)


def test_an_act_is_one_of_the_candidates_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    acting = composite(frozen=2)
    candidates = acting.policies.candidates(STATES)
    monkeypatch.setattr(acting.policies, "candidates", lambda _: candidates)
    choice = acting.act(STATES)
    assert choice.choice_probs.shape == (400, 3)
    assert set(choice.policy_index.tolist()) == {0, 1, 2}
    for row, index in enumerate(choice.policy_index.tolist()):
        assert torch.equal(choice.action[row], candidates[index, row])
    assert torch.equal(choice.choice_probs, acting.choice_probs(STATES, candidates))
    assert not choice.action.requires_grad


def values(acting: CompositePolicy, candidates: torch.Tensor) -> torch.Tensor:
    return torch.stack([acting.critic.q(STATES, action).amin(0) for action in candidates])


@pytest.mark.parametrize("admission", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("frozen", [1, 2, 3])
def test_admission_mixes_a_choice_of_the_frozen_with_one_of_all(
    frozen: int, admission: float
) -> None:
    acting = composite(frozen=frozen)
    acting.policies.admission.fill_(admission)
    candidates = acting.policies.candidates(STATES)
    q = values(acting, candidates)
    every = boltzmann_probs(q, 3.0)
    alone = torch.zeros(400, frozen + 1)
    alone[:, :-1] = boltzmann_probs(q[:-1], 3.0)
    probs = acting.choice_probs(STATES, candidates)
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
    acting.policies.admission.fill_(0.0)
    modes = acting.policies.modes(STATES)[:-1]
    choice = acting.act(STATES)
    assert set(choice.policy_index.tolist()) == set(range(frozen))
    for action in (choice.action, acting.evaluation_action(STATES)):
        assert (action == modes).all(-1).any(0).all()
    acting.policies.admission.fill_(1.0)
    for action in (acting.act(STATES).action, acting.evaluation_action(STATES)):
        assert not (action == modes).all(-1).any(0).all()


def test_half_admitted_half_of_the_evaluations_choices_are_among_all() -> None:
    acting = composite(eval_epsilon=0.0)
    modes = acting.policies.modes(STATES)
    better = values(acting, modes).argmax(0) == 1
    assert 40 < better.sum() < 360
    acting.policies.admission.fill_(0.5)
    taken = torch.stack([acting.evaluation_action(STATES) for _ in range(50)])
    learner = (taken == modes[1]).all(-1)
    assert not learner[:, ~better].any()
    assert learner[:, better].float().mean() == pytest.approx(0.5, abs=0.05)


def test_a_greedy_composite_takes_the_better_candidate() -> None:
    acting = composite(inv_temperature=1e6)
    choice = acting.act(STATES)
    assert torch.equal(choice.policy_index, choice.choice_probs.argmax(-1))
    assert set(choice.policy_index.tolist()) == {0, 1}


def test_eval_epsilon_zero_is_the_greedy_choice_between_modes() -> None:
    acting = composite(eval_epsilon=0.0)
    modes = acting.policies.modes(STATES)
    q = torch.stack([acting.critic.q(STATES, action).amin(0) for action in modes])
    expected = modes[q.argmax(0), torch.arange(400)]
    for _ in range(2):
        assert torch.equal(acting.evaluation_action(STATES), expected)


def test_eval_epsilon_one_samples_the_learner_and_the_choice() -> None:
    acting = composite(eval_epsilon=1.0, inv_temperature=0.0)
    modes = acting.policies.modes(STATES)
    action = acting.evaluation_action(STATES)
    frozen = (action == modes[0]).all(-1)
    # A uniform choice: half of 400, give or take four standard errors.
    assert abs(int(frozen.sum()) - 200) < 40
    assert not (action == modes[1]).all(-1).any()
    assert inside(action)


def test_eval_epsilon_is_the_share_of_samples() -> None:
    acting = composite(eval_epsilon=0.1, inv_temperature=1e6)
    states = STATES.repeat(20, 1)
    greedy = CompositePolicy(acting.policies, acting.critic, 1e6, 0.0).evaluation_action(states)
    learner = (greedy == acting.policies.modes(states)[1]).all(-1)
    moved = (acting.evaluation_action(states) != greedy).any(-1)
    # Where the learner's mode wins its samples do not always; elsewhere a sample may win.
    assert moved.float().mean() < 0.12
    assert moved[learner].float().mean() == pytest.approx(0.1, abs=0.025)


def test_what_the_optimiser_changes_is_in_effect_at_once() -> None:
    acting = composite(eval_epsilon=0.0, inv_temperature=1e6)
    before = acting.evaluation_action(STATES)
    with torch.no_grad():
        for parameter in acting.critic.q_net.parameters():
            parameter.neg_()
    assert not torch.equal(acting.evaluation_action(STATES), before)


def test_a_single_policy_samples_to_collect_and_evaluates_its_mode() -> None:
    member = policy()
    single = SinglePolicy(member)
    choice = single.act(STATES)
    assert inside(choice.action)
    assert not torch.equal(choice.action, single.act(STATES).action)
    assert choice.policy_index.tolist() == [0] * 400
    assert choice.choice_probs.tolist() == [[1.0]] * 400
    assert torch.equal(single.evaluation_action(STATES), member.mode(STATES))
