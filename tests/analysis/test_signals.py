"""Every signal of one answer, each against its own source."""

import families
import families_table
import processors
import pytest
import torch
from PIL import Image

import vgpo
from vgpo.analysis.signals import SIGNALS, masked_pictures
from vgpo.models.attention import attention_split
from vgpo.models.inputs import prepare_inputs, special_token_ids
from vgpo.testbed import build_processor, build_tiny

ANSWER = "red = 5 . blue = 8"


@pytest.fixture(scope="module")
def asked():
    """A model, its processor and a conversation about two pictures."""
    processor = build_processor()
    model = build_tiny(processor, hidden_size=64, layers=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    pictures = [
        Image.effect_noise(size, 90).convert("RGB") for size in ((84, 56), (56, 56))
    ]
    content = [{"type": "image", "image": picture} for picture in pictures]
    content.append({"type": "text", "text": "red + blue ?"})
    return model, processor, [{"role": "user", "content": content}]


def log_probabilities(model, processor, messages):
    inputs, ids = prepare_inputs(model, processor, messages, ANSWER)
    with torch.no_grad():
        logits = model(**inputs).logits[0, -len(ids) - 1 : -1].double()
    return logits.log_softmax(-1), ids


def before_no_picture(model, processor, ids):
    """Log-probabilities after the question alone, in double precision."""
    question = [{"role": "user", "content": [{"type": "text", "text": "red + blue ?"}]}]
    prompt = processor.apply_chat_template(question, add_generation_prompt=True)
    row = torch.cat([torch.tensor(processor.tokenizer(prompt).input_ids), ids])
    with torch.no_grad():
        logits = model(input_ids=row[None]).logits[0, -len(ids) - 1 : -1]
    return logits.double().log_softmax(-1)


def scaled(values):
    return (values - values.min()) / (values.max() - values.min())


def test_each_column_is_its_signal(asked):
    model, processor, messages = asked
    table = vgpo.signals(model, processor, messages, ANSWER, seed=3)
    plain, ids = log_probabilities(model, processor, messages)
    masked, _ = log_probabilities(
        model, processor, masked_pictures(messages, 0.6, 14, 3)
    )
    chosen = [float(row[token]) for row, token in zip(plain, ids, strict=True)]
    other = [float(row[token]) for row, token in zip(masked, ids, strict=True)]
    gap = torch.tensor(other) - torch.tensor(chosen)
    inputs, _ = prepare_inputs(model, processor, messages, ANSWER)
    blind = before_no_picture(model, processor, ids)
    nothing = torch.tensor(
        [float(row[token]) for row, token in zip(blind, ids, strict=True)]
    )
    draw = torch.Generator().manual_seed(3)
    noise = 2 * torch.randn(inputs["pixel_values"].shape, generator=draw)
    with torch.no_grad():
        logits = model(
            **inputs | {"pixel_values": inputs["pixel_values"] + noise}
        ).logits
    noisy = logits[0, -len(ids) - 1 : -1].double().log_softmax(-1)
    mean = (plain.exp() + noisy.exp()) / 2
    halves = [(p.exp() * (p - mean.log())).sum(-1) for p in (plain, noisy)]
    entropies = [-(p.exp() * p).sum(-1) for p in (plain, noisy)]
    change = (entropies[1] - entropies[0]).abs()
    jsd = (halves[0] + halves[1]) / 2
    split = attention_split(
        model,
        inputs,
        len(ids),
        layers="all",
        special_token_ids=special_token_ids(processor.tokenizer),
    )
    image = split.layer_masses[:, 0, :, 0]
    most = max(range(3), key=lambda layer: float(image[layer].sum()))
    wanted = {
        "log_prob": torch.tensor(chosen),
        "entropy": -(plain.exp() * plain).sum(-1),
        "contrast": -gap,
        "absolute_contrast": (torch.tensor(chosen) - nothing).abs(),
        "jsd": jsd,
        "vepo": (1 - (1 - scaled(jsd)) ** 0.7 * (1 - scaled(change)) ** 0.3)
        * scaled(entropies[0]),
        "k3": (gap.exp() - gap - 1).clamp(max=10),
        "focus_token": vgpo.score(model, processor, messages, ANSWER).focus,
        "focus_prediction": vgpo.score(
            model, processor, messages, ANSWER, alignment="prediction"
        ).focus,
        "attention_last": image[-1],
        "attention_most": image[most],
        "attention_mean": image.mean(dim=0),
    }
    for name, values in wanted.items():
        # Scaled to the spread of an answer, small differences are no longer small.
        off = 1e-2 if name == "vepo" else 1e-4
        assert table[name].tolist() == pytest.approx(values.tolist(), abs=off), name
    assert set(wanted) | {"layer_cosine"} == set(SIGNALS) | {"log_prob"}
    assert table.contrast.abs().max() > 1e-3
    assert table.layer_cosine.abs().max() <= 1
    assert not table[list(SIGNALS)].isna().any().any()
    assert table.position.tolist() == list(range(1, len(ids) + 1))
    assert table.token_id.tolist() == ids.tolist()


def test_nothing_masked_takes_nothing_away(asked):
    table = vgpo.signals(*asked, ANSWER, probability=0.0)
    assert (table.k3 == 0).all() and (table.contrast == 0).all()


def test_without_noise_nothing_diverges(asked):
    table = vgpo.signals(*asked, ANSWER, noise=0.0)
    # But for rounding, in which two passes over the same picture may differ.
    assert (table.jsd.abs() < 1e-8).all() and table.absolute_contrast.max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_gives_every_signal(name):
    model, processor = processors.model_of(name), processors.processor_of(name)
    pictures = families_table.PICTURES
    table = vgpo.signals(
        model, processor, families_table.conversation(*pictures), "five red tiles"
    )
    assert not table[list(SIGNALS)].isna().any().any()


def test_masked_pictures_leave_the_conversation_as_it_was(asked):
    *_, messages = asked
    before = [part["image"].tobytes() for part in messages[0]["content"][:2]]
    masked = masked_pictures(messages, 1.0)
    after = [part["image"].tobytes() for part in messages[0]["content"][:2]]
    assert before == after
    for part, given in zip(
        masked[0]["content"][:2], messages[0]["content"], strict=False
    ):
        assert part["image"].size == given["image"].size
        assert not any(part["image"].tobytes())
    assert masked[0]["content"][2] == messages[0]["content"][2]


def test_mode_of_the_model_is_put_back(asked):
    model, processor, messages = asked
    model.train()
    vgpo.signals(model, processor, messages, ANSWER)
    assert model.training
    model.eval()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probability": 1.5}, r"probability must be in \[0, 1\]"),
        ({"patch": 0}, "patch must be at least 1"),
        ({"noise": -1.0}, "noise must be at least 0"),
    ],
)
def test_wrong_settings_are_refused_by_name(asked, settings, message):
    with pytest.raises(ValueError, match=message):
        vgpo.signals(*asked, ANSWER, **settings)


def test_pictures_elsewhere_are_refused():
    part = {"type": "image", "url": "picture.png"}
    messages = [{"role": "user", "content": [part]}]
    with pytest.raises(ValueError, match="under 'image', got a part with"):
        masked_pictures(messages, 0.5)


def test_pictures_and_a_question_are_a_conversation(asked):
    model, processor, messages = asked
    *pictures, question = messages[0]["content"]
    short = vgpo.signals(
        model, processor, [one["image"] for one in pictures], question["text"], ANSWER
    )
    assert short.equals(vgpo.signals(*asked, ANSWER))
