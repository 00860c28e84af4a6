"""Degraded views of pictures: each row has that of its own picture, come what may.

Each view is made once more here, from one row alone: its picture, the draw of its
prompt or row, the processor, and a forward pass of nothing else.
"""

import families
import families_table
import processors
import pytest
import torch
from listening import ids_as_a_signal, listen, log_probs_of, pairs
from peft import LoraConfig
from tiny_training import (
    GROUP,
    dataset,
    different,
    make_trainer,
    model,
    parameters,
    processor,
    rows_of,
    train,
    two_images_each,
)
from tiny_training import Scripted as Trainer
from transformers import TrainerCallback

from vgpo.method.shaping import METHODS
from vgpo.models.adapters import load_four_bit
from vgpo.models.probes import (
    PROBES,
    MaskedLogProbs,
    Probe,
    black_patches,
    black_squares,
    register_probe,
)
from vgpo.seeds import mixed_seed

PICTURES = []
"""The pictures of the rows of a run's first generation."""


@pytest.fixture(autouse=True)
def registries():
    """What a test registers is gone after it."""
    before = dict(METHODS), dict(PROBES)
    PICTURES.clear()
    yield
    for now, then in zip((METHODS, PROBES), before, strict=True):
        now.clear()
        now.update(then)


class KeepPictures(Probe):
    """Keeps the pictures that probes are given."""

    needs_pictures = True

    def measure(self, scored):
        PICTURES[:] = scored.pictures
        return torch.zeros(scored.completion_ids.shape)


def adapters():
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)


SETTINGS = {
    "one batch, in the loss's pass": {},
    "two micro-batches, a pass of its own": {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
    },
    "in chunks, rollouts used twice": {
        "per_device_train_batch_size": 4,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "max_steps": 2,
    },
    "rows with and without image": {"train_dataset": lambda: rows_of("sum", "text")},
    "two images a row": {"train_dataset": two_images_each},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "reentrant checkpointing": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
    "LoRA, KL term": {"peft_config": adapters, "beta": 0.1},
    "4 bits": {"model": "4 bits", "peft_config": adapters},
    "dynamic sampling": {
        "train_dataset": lambda: rows_of(*["sum", "text", "count", "text"] * 4),
        "dynamic_sampling": True,
        "dynamic_sampling_lower_bound": 0.4,
        "dynamic_sampling_upper_bound": 0.6,
        "dynamic_sampling_max_attempts": 20,
    },
}


def processed(pictures):
    """Pixels of pictures, as the processor makes them."""
    return processor().image_processor(images=pictures, return_tensors="pt")[
        "pixel_values"
    ]


def view_of(row, pictures, on, draw):
    """Pixels of a row's degraded view."""
    if on == "picture":
        return processed([black_squares(one, 0.5, draw) for one in pictures])
    image_processor = processor().image_processor
    black = -torch.tensor(image_processor.image_mean)
    black = black / torch.tensor(image_processor.image_std)
    return black_patches(row["pixel_values"], 0.5, black, draw, flat=True)


@pytest.mark.parametrize(("on", "per"), [("picture", "prompt"), ("pixels", "row")])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_row_has_the_view_of_its_own_picture(setting, on, per, tmp_path):
    """As in PAPO, and as in VPPO."""
    options = dict(SETTINGS[setting])
    for name in ("train_dataset", "peft_config"):
        if name in options:
            options[name] = options[name]()
    if options.get("model") == "4 bits":
        model().save_pretrained(tmp_path / "model")
        options["model"] = load_four_bit(tmp_path / "model", torch.float32)
    ids_as_a_signal()
    register_probe("pictures")(KeepPictures)
    rollouts, trainer = listen(
        tmp_path,
        *("masked_log_probs", "log_probs", "pictures", "number"),
        settings={"masked_log_probs": {"probability": 0.5, "on": on, "per": per}},
        **options,
    )
    seed = mixed_seed(trainer.args.seed, 0)
    hidden = 0
    for i, row in pairs(rollouts, trainer):
        mask, pixels = rollouts.mask[i], None
        assert bool(PICTURES[i]) == ("pixel_values" in row)
        if PICTURES[i]:
            torch.testing.assert_close(processed(PICTURES[i]), row["pixel_values"])
            place = i if per == "row" else i // GROUP
            draw = torch.Generator().manual_seed(mixed_seed(seed, place))
            pixels = view_of(row, PICTURES[i], on, draw)
        wanted = log_probs_of(trainer.model, row, pixels)
        seen = rollouts.signals["masked_log_probs"][i]
        torch.testing.assert_close(seen[mask], wanted[mask], atol=1e-4, rtol=1e-4)
        gap = seen - rollouts.signals["log_probs"][i]
        hidden += bool(gap[mask].abs().max() > 1e-4)
    assert hidden >= GROUP


# -- resuming ---------------------------------------------------------------------


class Killed(Exception):
    pass


class KillAfter(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise Killed


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("papo", {"gamma": 5.0}),
        ("vppo", {"top_ratio": 0.2, "floor": 0.1}),
        ("srpo", {"temperature": 5.0, "spans": "all_seen"}),
    ],
)
def test_views_are_the_same_after_resuming(method, settings, tmp_path):
    @register_probe("all_seen")
    def all_seen(scored):
        return torch.ones(scored.completion_ids.shape)

    fields = {
        "method": method,
        "method_kwargs": settings,
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    whole = train(tmp_path / "whole", Trainer, **fields)
    with pytest.raises(Killed):
        train(tmp_path / "cut", Trainer, callbacks=[KillAfter()], **fields)
    resumed = make_trainer(tmp_path / "cut", Trainer, **fields)
    # What the script has written before.
    resumed.calls = 3
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-3"))
    assert not different(parameters(resumed), parameters(whole))


# -- families of models -----------------------------------------------------------


def looked_at(measure):
    """A probe in place of the views', which compares views that are known."""

    def check(self, scored):
        plain = scored.rescore(scored.pixels or [])
        seen = torch.tensor([bool(row) for row in scored.pictures])
        mask = scored.completion_mask
        for on in ("picture", "pixels"):
            nothing = measure(MaskedLogProbs(probability=0.0, on=on), scored)
            assert torch.equal(nothing[mask], plain[mask])
            black = measure(MaskedLogProbs(probability=1.0, on=on), scored)
            changed = ((black - plain).abs() * mask).amax(dim=1) > 1e-4
            assert torch.equal(changed, seen), f"{on}: {changed}, {seen}"
            CHECKED.append(on)
        return measure(self, scored)

    return check


CHECKED = []


def sighted(model_of):
    """Models that depend on the picture. The tiny Gemma has a window that ends before
    it, and a projection of it that begins at zero."""

    def build(name):
        if name != "gemma3":
            return model_of(name)
        kinds = ["full_attention", "sliding_attention", "full_attention"]
        built = model_of(name, layer_types=kinds)
        for parameter in built.parameters():
            if parameter.ndim == 2 and not parameter.any():
                torch.nn.init.normal_(parameter)
        return built

    return build


@pytest.mark.slow
@pytest.mark.parametrize("name", families.FAMILIES)
def test_views_are_those_of_the_rows_in_every_family(name, monkeypatch):
    CHECKED.clear()
    monkeypatch.setattr(processors, "model_of", sighted(processors.model_of))
    monkeypatch.setattr(MaskedLogProbs, "measure", looked_at(MaskedLogProbs.measure))
    # Rows of two pictures, of which TRL loses one in some families.
    several = name not in ("idefics3", "smolvlm", "llava_onevision")
    rows = families_table.mixed_rows()
    if not several:
        rows = rows.filter(lambda row: len(row["images"]) < 2)
    families_table.train(name, rows, method="papo")
    assert len(CHECKED) >= 4


# -- what models and data cannot give ---------------------------------------------


@pytest.mark.parametrize("method", ["papo", "vppo", "pepo", "srpo", "vgpo"])
def test_data_without_any_image_are_told_before_training(method, tmp_path, caplog):
    make_trainer(tmp_path, method=method, train_dataset=dataset("text"))
    assert f"method '{method}' weighs tokens" in caplog.text
    assert "no row of train_dataset has one" in caplog.text


@pytest.mark.parametrize("method", ["dapo", "entropy", "gpg"])
def test_methods_without_an_image_need_none(method, tmp_path, caplog):
    make_trainer(tmp_path, method=method, train_dataset=dataset("text"))
    assert "train_dataset" not in caplog.text


def test_one_row_with_an_image_is_enough(tmp_path, caplog):
    make_trainer(tmp_path, method="papo", train_dataset=rows_of("text", "sum"))
    assert "train_dataset" not in caplog.text
