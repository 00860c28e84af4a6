"""Methods under the trainer: signals, advantages, the term added to the loss."""

import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from listening import (
    LISTED,
    Listening,
    ids_as_a_signal,
    listen,
    log_probs_of,
    logits_of,
    pairs,
)
from tiny_training import (
    GROUP,
    Scripted,
    dataset,
    different,
    make_trainer,
    model,
    parameters,
    processor,
    reward_of,
    rows_of,
    split,
    train,
)
from transformers import Qwen2_5_VLForConditionalGeneration, TrainerCallback
from trl import GRPOTrainer

from vgpo import VGPOConfig, VGPOTrainer
from vgpo.method.shaping import METHODS, Method, Shaped, register
from vgpo.models.probes import PROBES, register_probe


@pytest.fixture(autouse=True)
def registries():
    """What a test registers is gone after it."""
    before = dict(METHODS), dict(PROBES)
    LISTED.clear()
    yield
    for now, then in zip((METHODS, PROBES), before, strict=True):
        now.clear()
        now.update(then)


@pytest.mark.parametrize("iterations", [1, 2])
def test_log_probs_and_entropy_are_those_of_the_policy(iterations, tmp_path):
    ids_as_a_signal()
    rollouts, trainer = listen(
        tmp_path, "log_probs", "entropy", "number", num_iterations=iterations
    )
    for i, row in pairs(rollouts, trainer):
        mask, logits = rollouts.mask[i], logits_of(trainer.model, row)
        probabilities = logits.softmax(-1)
        entropy = -(probabilities * logits.log_softmax(-1)).sum(-1)
        for name, wanted in (
            ("log_probs", log_probs_of(trainer.model, row)),
            ("entropy", entropy),
        ):
            torch.testing.assert_close(
                rollouts.signals[name][i][mask], wanted[mask], atol=1e-4, rtol=1e-4
            )


def test_masked_log_probs_are_those_before_another_picture(tmp_path):
    ids_as_a_signal()
    everything = {"masked_log_probs": {"probability": 1.0}}
    rollouts, trainer = listen(
        tmp_path,
        "masked_log_probs",
        "log_probs",
        "number",
        settings=everything,
        train_dataset=rows_of("sum", "text"),
    )
    image_processor = processor().image_processor
    mean = torch.tensor(image_processor.image_mean)
    black = -mean / torch.tensor(image_processor.image_std)
    told_apart = False
    for i, row in pairs(rollouts, trainer):
        mask, pixels = rollouts.mask[i], None
        assert rollouts.has_image[i] == ("pixel_values" in row)
        if "pixel_values" in row:
            lines, width = row["pixel_values"].shape
            pixels = black.repeat_interleave(width // 3).repeat(lines, 1)
        wanted = log_probs_of(trainer.model, row, pixels)
        seen = rollouts.signals["masked_log_probs"][i][mask]
        torch.testing.assert_close(seen, wanted[mask], atol=1e-4, rtol=1e-4)
        apart = (seen - rollouts.signals["log_probs"][i][mask]).abs().max() > 1e-3
        assert not apart or rollouts.has_image[i]
        told_apart |= bool(apart)
    assert told_apart


def lengths_of_scoring_passes(monkeypatch) -> list[int]:
    """Filled, while trainers run, with the tokens of each pass without gradient."""
    lengths = []
    original = GRPOTrainer._get_per_token_logps_and_entropies

    def noted(*arguments, **named):
        out = original(*arguments, **named)
        if not torch.is_grad_enabled():
            lengths.append(out[0].shape[1])
        return out

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", noted)
    return lengths


@pytest.mark.parametrize("families", [("sum", "text"), ("text", "text")])
def test_a_view_that_ends_early_says_the_same_until_then(
    families, tmp_path, monkeypatch
):
    """And its pass is no longer than that."""

    @register_probe("beginning")
    def beginning(scored):
        out = torch.zeros(scored.completion_ids.shape)
        out[:, 1:3] = 1.0
        return out

    lengths = lengths_of_scoring_passes(monkeypatch)
    found = {}
    for within in (None, "beginning"):
        rollouts, _ = listen(
            tmp_path,
            "masked_log_probs",
            settings={"masked_log_probs": {"within": within}},
            train_dataset=rows_of(*families),
        )
        found[within] = rollouts.signals["masked_log_probs"]
    whole, part = found[None], found["beginning"]
    assert lengths == [whole.shape[1], 3]
    torch.testing.assert_close(part[:, :3], whole[:, :3], atol=1e-5, rtol=1e-5)
    assert not part[:, 3:].any() and whole[:, 3:].any()


def test_nothing_masked_is_the_policy_itself(tmp_path):
    rollouts, _ = listen(
        tmp_path,
        "masked_log_probs",
        "log_probs",
        settings={"masked_log_probs": {"probability": 0.0}},
    )
    signals, mask = rollouts.signals, rollouts.mask
    assert torch.equal(signals["masked_log_probs"][mask], signals["log_probs"][mask])


@pytest.mark.parametrize("sampling", [False, True])
def test_a_signal_from_the_data_set_belongs_to_its_row(sampling, tmp_path):
    @register_probe("question")
    def question(scored):
        assert not {"image", "images"} & set(scored.rows[0])
        texts = [row["prompt"][0]["content"][-1]["text"] for row in scored.rows]
        numbers = [float(hash(text) % 1000) for text in texts]
        return torch.tensor(numbers)[:, None].expand(scored.completion_ids.shape)

    @register_probe("answered")
    def answered(scored):
        """1 where the decoded completion is the text of its ids."""
        decode = processor().tokenizer.decode
        same = [
            text == decode(ids[mask], skip_special_tokens=True)
            for text, ids, mask in zip(
                scored.completions,
                scored.completion_ids,
                scored.completion_mask,
                strict=True,
            )
        ]
        return torch.tensor(same)[:, None].expand(scored.completion_ids.shape)

    ids_as_a_signal()
    bounds = {
        "dynamic_sampling": sampling,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
        "dynamic_sampling_max_attempts": 20,
    }
    rollouts, trainer = listen(tmp_path, "question", "answered", "number", **bounds)
    assert (trainer.calls > 1) == sampling
    assert (rollouts.signals["answered"] == 1).all()
    for i, row in pairs(rollouts, trainer):
        asked = rollouts.signals["question"][i]
        prompt = processor().tokenizer.decode(row["prompt"])
        texts = {row["prompt"][0]["content"][-1]["text"] for row in dataset()}
        matching = [t for t in texts if float(hash(t) % 1000) == asked[0]]
        assert any(text in prompt for text in matching)
        reward = reward_of(row["completion"].tolist())
        assert rollouts.rewards[i] == pytest.approx(reward)


IN_TWO = {"per_device_train_batch_size": GROUP, "gradient_accumulation_steps": 2}
"""A generation in two micro-batches, each in another pass of the loss."""


def test_signals_cost_no_pass_that_they_do_not_need(tmp_path, monkeypatch):
    ids_as_a_signal()
    passes = []
    original = GRPOTrainer._get_per_token_logps_and_entropies

    def counted(*arguments, **named):
        passes.append(torch.is_grad_enabled())
        return original(*arguments, **named)

    name = "_get_per_token_logps_and_entropies"
    monkeypatch.setattr(GRPOTrainer, name, counted)
    for asked, settings, number in (
        ((), {}, 0),
        (("number",), {}, 0),
        # The loss's own pass is over the same rows, by the same policy.
        (("focus", "entropy", "log_probs"), {}, 0),
        (("focus", "masked_log_probs"), {}, 1),
        (("focus", "entropy", "log_probs"), IN_TWO, 1),
        (("focus", "masked_log_probs"), IN_TWO, 2),
        (("focus", "log_probs"), {"num_iterations": 2}, 1),
        (("focus", "masked_log_probs"), {"num_iterations": 2}, 2),
    ):
        passes.clear()
        listen(tmp_path, *asked, **settings)
        assert passes.count(False) == number, asked


@pytest.mark.parametrize(
    ("asked", "all_tokens"), [(("focus",), False), (("focus", "log_probs"), True)]
)
def test_a_pass_that_is_watched_alone_makes_no_logits(
    asked, all_tokens, tmp_path, monkeypatch
):
    lengths = lengths_of_scoring_passes(monkeypatch)
    rollouts, _ = listen(tmp_path, *asked, **IN_TWO)
    assert lengths == [rollouts.mask.shape[1] if all_tokens else 1]
    assert rollouts.signals["focus"][rollouts.mask].std() > 0


def test_probe_of_another_shape_is_refused(tmp_path):
    register_probe("number")(lambda scored: torch.zeros(3))
    with pytest.raises(ValueError, match=r"signal 'number': its probe gave shape \(3,"):
        listen(tmp_path, "number")


def test_unknown_signal_is_refused_before_anything_is_trained(tmp_path):
    register("listening")(Listening)
    with pytest.raises(ValueError, match="signals must be among"):
        make_trainer(tmp_path, method="listening", method_kwargs={"asked": ("sight",)})


def test_advantages_that_are_no_numbers_are_refused(tmp_path):
    @register("broken")
    @dataclass(frozen=True)
    class Broken(Method):
        def shape(self, rollouts):
            return Shaped(rollouts.advantages / 0)

    with pytest.raises(ValueError, match=r"Broken\.shape gave advantages"):
        train(tmp_path, Scripted, method="broken", max_steps=1)


# -- plain methods, and the term added to the loss --------------------------------


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A folder, since TRL loads the reference model of a KL term by its name."""
    folder = tmp_path_factory.mktemp("model")
    model().save_pretrained(folder)
    return folder


def trained(folder, saved_model, trainer_class=Scripted, **fields):
    start = Qwen2_5_VLForConditionalGeneration.from_pretrained(saved_model)
    return parameters(train(folder, trainer_class, model=start, **fields))


@pytest.mark.parametrize("name", ["grpo", "dapo"])
def test_plain_methods_are_trl_bit_for_bit(name, saved_model, tmp_path):
    preset = VGPOConfig.preset_fields(name)
    fields = {k: preset[k] for k in ("loss_type", "epsilon", "beta")}
    fields |= {"epsilon_high": preset.get("epsilon_high"), "num_iterations": 2}
    ours = trained(tmp_path, saved_model, VGPOTrainer, method=name, **fields)
    assert not different(ours, trained(tmp_path, saved_model, GRPOTrainer, **fields))


@dataclass(frozen=True)
class MorePraise(Method):
    """Adds ``factor`` times the mean log-probability, by a signal of its own."""

    factor: float = 0.0
    signals = frozenset({"masked_log_probs"})

    def shape(self, rollouts):
        signal = rollouts.signals["masked_log_probs"]
        return Shaped(rollouts.advantages, extras={"seen": signal})

    def extra_loss(self, step):
        if self.factor == 0:
            return None
        gap = (step.log_probs - step.extras["seen"]) * step.mask
        return self.factor * gap.sum() / step.mask.sum()


def test_extra_loss_of_none_is_the_loss_itself(saved_model, tmp_path):
    register("praise")(MorePraise)
    ours = trained(tmp_path, saved_model, method="praise", learning_rate=1e-2)
    plain = trained(tmp_path, saved_model, method="grpo", learning_rate=1e-2)
    assert not different(ours, plain)


def test_extra_loss_is_averaged_over_the_micro_batches(saved_model, tmp_path):
    register("praise")(MorePraise)
    rate = 0.01
    trainer = train(
        tmp_path,
        Scripted,
        model=Qwen2_5_VLForConditionalGeneration.from_pretrained(saved_model),
        method="praise",
        method_kwargs={"factor": 0.5},
        # Equal rewards: the term is all there is to learn from.
        reward_funcs=lambda completions, **columns: [1.0] * len(completions),
        per_device_train_batch_size=GROUP,
        gradient_accumulation_steps=2,
        max_steps=1,
        learning_rate=rate,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        beta=0.0,
    )
    assert trainer.state.log_history[0]["extra_loss"] != 0
    start = Qwen2_5_VLForConditionalGeneration.from_pretrained(saved_model)
    assert len(trainer.seen) == 2
    for seen in trainer.seen:
        total, count = 0.0, 0
        for row in split(seen):
            ids = torch.cat([row["prompt"], row["completion"]])[None]
            logits = start(
                input_ids=ids,
                attention_mask=torch.cat([torch.ones_like(row["prompt"]), row["mask"]])[
                    None
                ],
                mm_token_type_ids=(ids == processor().image_token_id).int(),
                pixel_values=row["pixel_values"],
                image_grid_thw=row["image_grid_thw"],
            ).logits[0, len(row["prompt"]) - 1 : -1]
            chosen = row["completion"][:, None]
            taken = logits.log_softmax(-1).gather(1, chosen)[:, 0]
            total = total + (taken * row["mask"]).sum()
            count += int(row["mask"].sum())
        (0.5 * total / count / len(trainer.seen)).backward()
    moved = 0
    for name, parameter in start.named_parameters():
        if parameter.grad is None:
            continue
        wanted = parameter.detach() - rate * parameter.grad
        after = dict(trainer.model.named_parameters())[name]
        torch.testing.assert_close(after.detach(), wanted, atol=2e-6, rtol=1e-4)
        moved += int((after != parameter).any())
    assert moved > 5


class Killed(Exception):
    pass


class KillAfter(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise Killed


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("praise", {"factor": 0.5}),
        # Shaped in the loss, of what was measured before it.
        ("srpo", {"temperature": 5.0, "spans": "every_other"}),
    ],
)
def test_what_a_loss_needs_survives_a_kill_between_two_generations(
    method, settings, saved_model, tmp_path
):
    register("praise")(MorePraise)

    @register_probe("every_other")
    def every_other(scored):
        out = torch.zeros(scored.completion_ids.shape)
        out[:, ::2] = 1.0
        return out

    fields = {
        "method": method,
        "method_kwargs": settings,
        "per_device_train_batch_size": GROUP,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    whole = train(tmp_path / "whole", **fields)
    with pytest.raises(Killed):
        train(tmp_path / "cut", callbacks=[KillAfter()], **fields)
    resumed = train(
        tmp_path / "cut", resume=str(tmp_path / "cut" / "checkpoint-3"), **fields
    )
    assert not different(parameters(resumed), parameters(whole))


def test_views_of_pictures_are_the_same_after_resuming(saved_model, tmp_path):
    fields = {
        "method": "papo",
        "method_kwargs": {"gamma": 5.0},
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    whole = train(tmp_path / "whole", Scripted, **fields)
    with pytest.raises(Killed):
        train(tmp_path / "cut", Scripted, callbacks=[KillAfter()], **fields)
    resumed = make_trainer(tmp_path / "cut", Scripted, **fields)
    # What the script has written before.
    resumed.calls = 3
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-3"))
    assert not different(parameters(resumed), parameters(whole))


def test_gpg_without_scale_is_trl_bit_for_bit(saved_model, tmp_path):
    preset = VGPOConfig.preset_fields("gpg")
    fields = {k: preset[k] for k in ("loss_type", "beta", "scale_rewards")}
    kwargs = {"method": "gpg", "method_kwargs": {"scale": False}}
    ours = trained(tmp_path, saved_model, VGPOTrainer, **kwargs, **fields)
    assert not different(ours, trained(tmp_path, saved_model, GRPOTrainer, **fields))


# -- the example of the book ------------------------------------------------------


def test_method_of_the_book_trains(root, tmp_path):
    page = (root / "book" / "recipes.md").read_text(encoding="utf-8")
    section = page.split("## A method of your own")[1].split("\n## ")[0]
    first, *_ = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    exec(first, {"__name__": "book"})
    trainer = train(tmp_path, Scripted, method="late", max_steps=1)
    for seen in trainer.seen:
        for row in split(seen):
            mask = row["mask"].bool()
            place = torch.arange(1, int(mask.sum()) + 1)
            ratio = row["advantages"][mask] / row["advantages"][0]
            if row["advantages"][0] != 0:
                torch.testing.assert_close(ratio, place.float())


# -- settings ---------------------------------------------------------------------


def test_settings_reach_the_method(tmp_path):
    register("praise")(MorePraise)

    def made(**fields):
        config = VGPOConfig(output_dir=str(tmp_path), use_cpu=True, **fields)
        return config.make_method()

    assert made(method="praise", method_kwargs={"factor": 2.0}) == MorePraise(2.0)
    assert made(method="praise", method_kwargs='{"factor": 2.0}') == MorePraise(2.0)
    assert made(visual_gate_top_ratio=0.4).top_ratio == 0.4
    for fields, message in (
        ({"method": "ppo"}, "method must be one of"),
        ({"method": "dapo", "method_kwargs": "a=1"}, "must be a mapping.*'a=1'"),
        ({"method": "dapo", "method_kwargs": {"a": 1}}, "'dapo' has no setting 'a'"),
        ({"method_kwargs": {"strength": 1}}, "VGPO's settings are fields of their own"),
    ):
        with pytest.raises(ValueError, match=message):
            made(**fields)


def test_preset_of_a_registered_method(tmp_path):
    @register("praise")
    @dataclass(frozen=True)
    class Praise(MorePraise):
        preset: ClassVar[dict] = {"loss_type": "grpo", "beta": 0.01}

    config = VGPOConfig.preset("praise", output_dir=str(tmp_path), use_cpu=True)
    assert (config.method, config.loss_type, config.beta) == ("praise", "grpo", 0.01)
    assert config.num_generations == 8
    assert config.reweights
