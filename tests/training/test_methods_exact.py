"""What methods are exactly: neutral ones, GPG's own loss, shaping in the loss."""

from dataclasses import dataclass, replace

import pytest
import torch
from listening import log_probs_of, logits_of
from peft import LoraConfig
from tiny_training import (
    GROUP,
    Scripted,
    different,
    make_trainer,
    model,
    parameters,
    reward_of,
    rows_of,
    split,
    train,
)
from trl import GRPOTrainer

from vgpo import VGPOTrainer
from vgpo.method.entropy import EntropyShaping
from vgpo.method.shaping import (
    METHODS,
    Method,
    Rollouts,
    Shaped,
    make_method,
    register,
)
from vgpo.models.probes import PROBES, PassProbe, register_probe


@pytest.fixture(autouse=True)
def registries():
    """What a test registers is gone after it."""
    before = dict(METHODS), dict(PROBES)
    yield
    for now, then in zip((METHODS, PROBES), before, strict=True):
        now.clear()
        now.update(then)


NEUTRAL = {
    "papo": {"gamma": 0.0, "mask_entropy": 0.0, "entropy": 0.0},
    "papo_grpo": {"gamma": 0.0, "mask_entropy": 0.0, "entropy": 0.0},
    "vppo": {"top_ratio": 1.0, "floor": 1.0, "entropy": 0.0},
    "entropy": {"alpha": 0.0},
    "gpg": {"scale": False},
    "srpo": {"temperature": 0.0},
}


BASE = {"loss_type": "dapo", "num_iterations": 2, "epsilon_high": 0.28}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The weights that the base loss ends in."""
    folder = tmp_path_factory.mktemp("base")
    return parameters(train(folder, Scripted, method="dapo", **BASE))


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_settings_are_the_base_loss_bit_for_bit(name, base, tmp_path):
    ours = train(tmp_path, Scripted, method=name, method_kwargs=NEUTRAL[name], **BASE)
    assert not different(parameters(ours), base)


@pytest.mark.parametrize("name", ["pepo", "pepo_grpo"])
def test_pepo_begins_as_the_base_loss_bit_for_bit(name, tmp_path):
    """Nothing of its weights is annealed in at the first step, and later something."""
    settings = {"temperature": 0.01}
    ours, base = {}, {}
    for steps in (1, 2):
        fields = {"loss_type": "dapo", "max_steps": steps, "optim": "sgd"}
        ours[steps] = parameters(
            train(tmp_path, Scripted, method=name, method_kwargs=settings, **fields)
        )
        base[steps] = parameters(train(tmp_path, Scripted, method="dapo", **fields))
    assert not different(ours[1], base[1])
    assert different(ours[2], base[2])


# -- GPG --------------------------------------------------------------------------


def one_group_in_two(completion_ids, **columns):
    """Rewards that differ in the first group and are equal in the second."""
    return [
        reward_of(ids) if row < GROUP else 0.5 for row, ids in enumerate(completion_ids)
    ]


def test_gpg_takes_the_step_of_its_own_loss(tmp_path):
    """TRL's loss of the preset, against -log pi (R - mean R) / share, by hand."""
    rate = 0.01
    preset = {"loss_type": "grpo", "beta": 0.0, "scale_rewards": "none"}
    trainer = train(
        tmp_path,
        Scripted,
        method="gpg",
        reward_funcs=one_group_in_two,
        max_steps=1,
        learning_rate=rate,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        **preset,
    )
    assert trainer.state.log_history[0]["gpg/useful_share"] == 0.5
    start = model()
    rows = [row for seen in trainer.seen for row in split(seen)]
    useful = [row for row in rows if row["advantages"].abs().max() > 0]
    rewards = torch.tensor([reward_of(row["completion"].tolist()) for row in useful])
    assert len(rows) == 2 * GROUP and len(useful) >= 2
    mean = mean_of_first_group(trainer)
    total = 0.0
    for row, value in zip(useful, rewards, strict=True):
        mask = row["mask"].bool()
        taken = log_probs_of(start, row, gradient=True)[mask]
        total = total - taken.mean() * (float(value) - mean) / (0.5 + 1e-5)
    (total / len(rows)).backward()
    moved = 0
    for name, parameter in start.named_parameters():
        if parameter.grad is None:
            continue
        wanted = parameter.detach() - rate * parameter.grad
        after = dict(trainer.model.named_parameters())[name].detach()
        torch.testing.assert_close(after, wanted, atol=2e-6, rtol=1e-4)
        moved += int((after != parameter).any())
    assert moved > 5


def mean_of_first_group(trainer):
    """Mean reward of the group with different ones, out of its advantages."""
    rows = [row for seen in trainer.seen for row in split(seen)]
    row = next(row for row in rows if row["advantages"].abs().max() > 0)
    advantage = float(row["advantages"].reshape(-1)[0]) * (0.5 + 1e-5)
    return reward_of(row["completion"].tolist()) - advantage


# -- shaped in the loss -----------------------------------------------------------


@dataclass(frozen=True)
class BeforeTheLoss(EntropyShaping):
    """Entropy shaping by a pass of its own, once per generation."""

    in_loss = False


def a_pass_of_its_own(monkeypatch):
    """Keeps the loss's pass from being shared."""
    monkeypatch.setattr(VGPOTrainer, "_signals_of_shared_pass", lambda self: None)


SHARED = {
    "vgpo": {"method": "vgpo"},
    "vgpo, prediction": {"method": "vgpo", "alignment": "prediction"},
    "vgpo, released": {"method": "vgpo", "variant": "released"},
    "vppo": {"method": "vppo", "method_kwargs": {"floor": 0.1, "entropy": 0.5}},
    "vppo, micro-batches": {
        "method": "vppo",
        "method_kwargs": {"statistic": "micro_batch", "micro_batch": 3, "floor": 0.1},
    },
}
LIKE = {
    "plain": {},
    "checkpointing": {"gradient_checkpointing": True},
    "KL term, adapters": {"beta": 0.1, "peft_config": True},
    "rows without image": {"train_dataset": ("sum", "text", "count", "sum")},
    "dynamic sampling": {
        "dynamic_sampling": True,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
        "dynamic_sampling_max_attempts": 20,
    },
    "truncated rollouts masked": {"mask_truncated_completions": True},
}


@pytest.mark.parametrize("like", LIKE)
@pytest.mark.parametrize("name", SHARED)
def test_in_the_losss_pass_methods_shape_as_in_one_of_their_own(
    name, like, tmp_path, monkeypatch
):
    fields = {"max_steps": 2, "optim": "sgd", "learning_rate": 0.05} | LIKE[like]
    if "train_dataset" in fields:
        fields["train_dataset"] = rows_of(*fields["train_dataset"])
    passes = counted_passes(monkeypatch)

    def run(number):
        given = dict(fields)
        if "peft_config" in given:
            given["peft_config"] = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
        passes.clear()
        torch.manual_seed(0)
        trainer = train(tmp_path / str(number), Scripted, **SHARED[name], **given)
        return trainer, passes.count(False)

    shared, few = run(0)
    a_pass_of_its_own(monkeypatch)
    own, more = run(1)
    assert more == few + 2
    for seen, wanted in zip(shared.seen, own.seen, strict=True):
        assert not {"rewards", "place:"} & set(seen)
        assert torch.equal(seen["completion_ids"], wanted["completion_ids"])
        mask = wanted["completion_mask"].bool()
        torch.testing.assert_close(
            seen["advantages"][mask], wanted["advantages"][mask], atol=1e-5, rtol=1e-4
        )
        assert seen["advantages"][mask].abs().max() > 0
    for key, values in parameters(shared).items():
        torch.testing.assert_close(values, parameters(own)[key], atol=1e-6, rtol=1e-4)
    for row, wanted in zip(
        shared.state.log_history, own.state.log_history, strict=True
    ):
        ours = {k: v for k, v in row.items() if k.startswith(("visual/", "vppo/"))}
        theirs = {k: v for k, v in wanted.items() if k in ours}
        assert ours == pytest.approx(theirs, abs=1e-4) and set(row) == set(wanted)


IN_GROUPS = {
    "groups of two": {"per_device_train_batch_size": 2 * GROUP},
    "single groups": {"per_device_train_batch_size": GROUP},
    "two generations": {
        "per_device_train_batch_size": GROUP,
        "gradient_accumulation_steps": 4,
        "steps_per_generation": 2,
    },
    "rows without image": {"train_dataset": ("sum", "text", "count", "sum")},
    "dynamic sampling": LIKE["dynamic sampling"],
}


BY_GROUP = {
    "vgpo": SHARED["vgpo"],
    "vgpo, prediction": SHARED["vgpo, prediction"],
    # Without its term, a mean over whatever rows a micro-batch has.
    "vppo": {"method": "vppo", "method_kwargs": {"floor": 0.1, "entropy": 0.0}},
}


@pytest.mark.parametrize("like", IN_GROUPS)
@pytest.mark.parametrize("name", BY_GROUP)
def test_micro_batches_of_whole_groups_are_shaped_in_the_losss_pass(
    name, like, tmp_path, monkeypatch
):
    """As by one pass over the generation, before it was shuffled and split."""
    fields = {
        "max_steps": 2,
        "optim": "sgd",
        "learning_rate": 0.05,
        "per_device_train_batch_size": GROUP,
        "gradient_accumulation_steps": 2,
    } | IN_GROUPS[like]
    if "train_dataset" in fields:
        fields["train_dataset"] = rows_of(*fields["train_dataset"])
    passes = counted_passes(monkeypatch)

    def run(number):
        passes.clear()
        torch.manual_seed(0)
        trainer = train(tmp_path / str(number), Scripted, **BY_GROUP[name], **fields)
        return trainer, passes.count(False)

    def rows(trainer):
        """Of all micro-batches, in an order that is the same however they are cut."""
        found = [row for seen in trainer.seen for row in split(seen)]
        assert all(
            {"prompt", "completion", "advantages"} <= row.keys() for row in found
        )
        keys = [(*row["prompt"].tolist(), *row["completion"].tolist()) for row in found]
        return sorted(zip(keys, found, strict=True), key=lambda pair: pair[0])

    shared, few = run(0)
    a_pass_of_its_own(monkeypatch)
    own, more = run(1)
    generations = 4 if like == "two generations" else 2
    assert few == (generations if name == "vppo" else 0)
    assert more == few + generations
    for (key, row), (wanted_key, wanted) in zip(rows(shared), rows(own), strict=True):
        assert key == wanted_key
        mask = wanted["mask"].bool()
        ours = row["advantages"].expand(len(mask))[mask]
        theirs = wanted["advantages"].expand(len(mask))[mask]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
        assert ("pixel_values" in row) == ("pixel_values" in wanted)
        if "pixel_values" in row:
            assert torch.equal(row["pixel_values"], wanted["pixel_values"])
    # At the end of a run, the table of the last step: its advantages are in its order.
    assert list(shared._logs["completion"]) == list(own._logs["completion"])
    assert list(shared._logs["advantages"]) == pytest.approx(
        list(own._logs["advantages"]), abs=1e-5
    )
    for key, values in parameters(shared).items():
        torch.testing.assert_close(values, parameters(own)[key], atol=1e-6, rtol=1e-4)


def test_a_run_stopped_within_a_generation_goes_on_in_the_same_trainer(tmp_path):
    """What was shaped of that generation is not taken for a part of the next one."""

    class StoppedOnce(Scripted):
        stop_at = 3  # the first micro-batch of the second generation has been shaped

        def _compute_loss(self, model, inputs):
            loss = super()._compute_loss(model, inputs)
            if len(self.seen) == self.stop_at:
                self.stop_at = None
                raise KeyboardInterrupt
            return loss

    fields = {
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "per_device_train_batch_size": GROUP,
        "gradient_accumulation_steps": 2,
    }
    trainer = make_trainer(tmp_path, StoppedOnce, method="vgpo", **fields)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert len(trainer._shaped_so_far) == 1
    trainer.train(resume_from_checkpoint="auto")
    assert trainer.state.global_step == 2 and not trainer._shaped_so_far
    table = torch.tensor(list(trainer._logs["advantages"])[-2 * GROUP :])
    last = [
        row["advantages"][row["mask"].bool()].mean()
        for seen in trainer.seen[-2:]
        for row in split(seen)
    ]
    torch.testing.assert_close(table.sort().values, torch.stack(last).sort().values)


def test_micro_batches_that_split_groups_have_a_pass_of_their_own(
    tmp_path, monkeypatch
):
    passes = counted_passes(monkeypatch)
    half = {"per_device_train_batch_size": GROUP // 2, "gradient_accumulation_steps": 4}
    train(tmp_path / "half", Scripted, method="vgpo", max_steps=1, **half)
    assert passes.count(False) == 1
    passes.clear()


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"method": "vgpo", "variant": "released"}, 1),
        ({"method": "vppo", "method_kwargs": {"statistic": "batch"}}, 2),
        ({"method": "vppo", "method_kwargs": {"statistic": "micro_batch"}}, 2),
    ],
)
def test_methods_that_look_at_other_groups_have_a_pass_of_their_own(
    fields, number, tmp_path, monkeypatch
):
    passes = counted_passes(monkeypatch)
    whole = {"per_device_train_batch_size": GROUP, "gradient_accumulation_steps": 2}
    train(tmp_path, Scripted, max_steps=1, **fields, **whole)
    assert passes.count(False) == number


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vgpo", {}),
        ("vgpo", {"alignment": "prediction", "accumulation": "mean"}),
        ("vppo", {"floor": 0.1}),
    ],
)
def test_methods_by_group_shape_a_group_alone_as_among_others(name, settings):
    method = make_method(name, settings)
    assert method.by_group
    torch.manual_seed(0)
    rows, length = 3 * GROUP, 9
    counts = torch.randint(1, length + 1, (rows, 1))
    together = Rollouts(
        advantages=torch.randn(rows),
        mask=torch.arange(length) < counts,
        group_ids=torch.arange(rows) // GROUP,
        signals={signal: torch.rand(rows, length) for signal in method.signals},
        has_image=torch.rand(rows) < 0.8,
        rewards=torch.rand(rows),
    )
    shaped = method.shape(together).advantages
    for group in range(3):
        of = slice(group * GROUP, (group + 1) * GROUP)
        alone = replace(
            together,
            **{
                name: getattr(together, name)[of]
                for name in ("advantages", "mask", "group_ids", "has_image", "rewards")
            },
            signals={name: x[of] for name, x in together.signals.items()},
        )
        torch.testing.assert_close(method.shape(alone).advantages, shaped[of])


def test_a_signal_of_the_results_of_a_pass_keeps_its_own(tmp_path, monkeypatch):
    """What a probe makes of log-probabilities is made before rows are shuffled."""

    @register_probe("doubled", needs=("log_probs",))
    def doubled(scored):
        return 2 * scored.log_probs

    passes, given = counted_passes(monkeypatch), []

    @register("kept")
    @dataclass(frozen=True)
    class Kept(Method):
        signals = frozenset({"doubled", "log_probs"})

        def shape(self, rollouts):
            given.append(rollouts.signals)
            return Shaped(rollouts.advantages)

    train(tmp_path, Scripted, method="kept", max_steps=1)
    assert passes.count(False) == 1
    assert torch.equal(given[0]["doubled"], 2 * given[0]["log_probs"])


STRONG = {"alpha": 5.0, "kappa": 1.1}


def counted_passes(monkeypatch):
    passes = []
    original = GRPOTrainer._get_per_token_logps_and_entropies

    def counted(*arguments, **named):
        passes.append(torch.is_grad_enabled())
        return original(*arguments, **named)

    name = "_get_per_token_logps_and_entropies"
    monkeypatch.setattr(GRPOTrainer, name, counted)
    return passes


def test_on_policy_the_loss_shapes_as_a_pass_before_it_would(tmp_path, monkeypatch):
    register("before")(BeforeTheLoss)
    passes = counted_passes(monkeypatch)
    fields = {
        "method_kwargs": STRONG,
        "max_steps": 2,
        "optim": "sgd",
        "per_device_train_batch_size": GROUP,
        "gradient_accumulation_steps": 2,
    }
    ours = train(tmp_path, Scripted, method="entropy", **fields)
    assert passes.count(False) == 0
    before = train(tmp_path, Scripted, method="before", **fields)
    assert passes.count(False) == 2
    base = train(tmp_path, Scripted, method="dapo", **fields | {"method_kwargs": {}})
    for name, values in parameters(ours).items():
        torch.testing.assert_close(
            values, parameters(before)[name], atol=1e-7, rtol=1e-5
        )
    assert different(parameters(ours), parameters(base))
    for name in (
        "advantages/mean_abs",
        "entropy_shaping/bonus",
        "entropy_shaping/capped_share",
    ):
        one, other = (
            [row[name] for row in trainer.state.log_history if name in row]
            for trainer in (ours, before)
        )
        assert len(one) == len(other) == 2
        # Micro-batches have different numbers of tokens.
        assert one == pytest.approx(other, rel=0.3)


SPANS = {"temperature": 5.0, "spans": "every_other"}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pepo", {"temperature": 0.05}),
        ("pepo", {"temperature": 0.05, "variant": "released"}),
        ("srpo", SPANS),
    ],
)
def test_shaping_in_the_loss_is_that_of_before_it(
    name, settings, checkpointing, tmp_path, monkeypatch
):
    """On-policy, with rows without an image, and whatever is computed again."""

    @register_probe("every_other")
    def every_other(scored):
        out = torch.zeros(scored.completion_ids.shape)
        out[:, ::2] = 1.0
        return out

    @register("before")
    @dataclass(frozen=True)
    class Before(METHODS[name]):
        in_loss = False

    given = {"before": [], name: []}
    for which, method in (("before", Before), (name, METHODS[name])):
        original = method.shape

        def shape(self, rollouts, original=original, which=which):
            given[which].append(replace(rollouts, progress=1.0))
            return original(self, given[which][-1])

        monkeypatch.setattr(method, "shape", shape)
    passes = counted_passes(monkeypatch)
    a_pass_of_its_own(monkeypatch)
    fields = {
        "method_kwargs": settings,
        "max_steps": 2,
        "optim": "sgd",
        "learning_rate": 0.1,
        "gradient_checkpointing": checkpointing,
        "train_dataset": rows_of("sum", "text", "count", "sum"),
    }
    ours = train(tmp_path, Scripted, method=name, **fields)
    took = passes.count(False)
    before = train(tmp_path, Scripted, method="before", **fields)
    assert passes.count(False) - took == took + 2
    assert len(given[name]) == len(given["before"]) == 2
    base = train(tmp_path, Scripted, method="dapo", **fields | {"method_kwargs": {}})
    apart = 0.0
    for key, values in parameters(ours).items():
        torch.testing.assert_close(
            values, parameters(before)[key], atol=2e-5, rtol=1e-3
        )
        apart = max(apart, float((values - parameters(base)[key]).abs().max()))
    assert apart > 1e-3


def test_log_probs_in_the_loss_are_of_the_policy_that_wrote(tmp_path):
    """At the second update, too, unlike the entropy."""
    given = []

    @register("kept")
    @dataclass(frozen=True)
    class Kept(Method):
        in_loss = True
        signals = frozenset({"log_probs", "entropy"})

        def shape(self, rollouts):
            given.append(rollouts.signals)
            return Shaped(rollouts.advantages)

    fields = {"method": "kept", "num_iterations": 2, "max_steps": 2}
    train(tmp_path, Scripted, learning_rate=0.05, **fields)
    first, second = given
    assert torch.equal(first["log_probs"], second["log_probs"])
    assert not torch.allclose(first["entropy"], second["entropy"], atol=0.01)


class Looking(Scripted):
    """Entropies of each micro-batch under the policy as it is, and what was shaped."""

    wanted: list
    given: list

    def _compute_loss(self, model, inputs):
        rows = []
        for row in split(inputs):
            logits = logits_of(self.model, row).log_softmax(-1)
            rows.append(-(logits.exp() * logits).sum(-1))
        self.wanted.append(torch.stack(rows))
        before = inputs["advantages"].clone()
        loss = super()._compute_loss(model, inputs)
        assert torch.equal(inputs["advantages"], before), "rollouts are used again"
        return loss


def test_each_update_is_shaped_by_the_policy_of_then(tmp_path):
    @register("shown")
    @dataclass(frozen=True)
    class Shown(EntropyShaping):
        def shape(self, rollouts):
            Looking.given.append(rollouts)
            return super().shape(rollouts)

    Looking.wanted, Looking.given = [], []
    train(
        tmp_path,
        Looking,
        method="shown",
        method_kwargs=STRONG,
        num_iterations=2,
        max_steps=2,
        learning_rate=0.05,
    )
    assert len(Looking.given) == len(Looking.wanted) == 2
    for rollouts, wanted in zip(Looking.given, Looking.wanted, strict=True):
        mask = rollouts.mask
        torch.testing.assert_close(
            rollouts.signals["entropy"][mask], wanted[mask], atol=1e-4, rtol=1e-4
        )
    first, second = (each.signals["entropy"] for each in Looking.given)
    assert (first - second).abs()[Looking.given[0].mask].max() > 0.01


def test_only_what_the_loss_gives_can_be_asked_for_there(tmp_path):
    @register("sighted")
    @dataclass(frozen=True)
    class Sighted(Method):
        in_loss = True
        signals = frozenset({"entropy", "sight"})

        def shape(self, rollouts):
            return Shaped(rollouts.advantages)

    @register_probe("sight")
    @dataclass(frozen=True)
    class Sight(PassProbe):
        pass

    with pytest.raises(ValueError, match=r"in_loss: signal 'sight' of Sighted cannot"):
        make_trainer(tmp_path, method="sighted")
