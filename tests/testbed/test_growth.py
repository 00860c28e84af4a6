"""A grown model does what the small one does, and can learn everywhere."""

import pytest
import torch

from vgpo.testbed import WORLDS, build_processor, build_tiny, load_tiny
from vgpo.testbed.data import encode_examples
from vgpo.testbed.growth import grow
from vgpo.testbed.look_away import look_away_vocabulary


@pytest.fixture(scope="module")
def known():
    return load_tiny("look_away")[0]


@pytest.fixture(scope="module")
def processor():
    return build_processor(look_away_vocabulary())


@pytest.fixture(scope="module")
def batch(processor):
    examples = WORLDS["look_away"].examples(2, seed=4, split="heldout")
    batch = encode_examples(processor, examples)
    del batch["labels"]
    return batch


SIZES = [
    {"hidden_size": 384, "layers": 8, "vision_layers": 3},
    {"hidden_size": 192, "layers": 4, "vision_layers": 2},
    {"hidden_size": 128, "layers": 9, "vision_layers": 5},
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_grown_model_says_what_the_small_one_says(sizes, known, processor, batch):
    model = build_tiny(processor, seed=1, **sizes).eval()
    inside = batch["attention_mask"].bool()
    with torch.no_grad():
        wanted = known(**batch).logits[inside]
        before = model(**batch).logits[inside]
        found = grow(known, model)(**batch).logits[inside]
        # The stream's mean square is smaller by the new channels; so let epsilon be.
        for module in model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.variance_epsilon *= 128 / sizes["hidden_size"]
        exactly = model(**batch).logits[inside]
    assert (before - wanted).abs().max() > 1
    torch.testing.assert_close(found, wanted, atol=0.3, rtol=0)
    torch.testing.assert_close(exactly, wanted, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_last_layer_is_that_of_the_small_one(sizes, known, processor):
    model = grow(known, build_tiny(processor, seed=1, **sizes))
    last, old = (m.model.language_model.layers[-1].self_attn for m in (model, known))
    assert torch.equal(last.q_proj.weight[:128, :128], old.q_proj.weight)
    assert torch.equal(last.v_proj.weight[:64, :128], old.v_proj.weight)


def test_every_new_weight_has_a_gradient_after_a_step(known, processor, batch):
    model = grow(known, build_tiny(processor, seed=1, **SIZES[0]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        logits = model(**batch).logits
        torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["input_ids"][:, 1:].flatten()
        ).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        # Words that do not occur have none, nor have keys' offsets, which softmax
        # leaves out.
        if "embed_tokens" in name:
            continue
        share = (parameter.grad != 0).float().mean()
        assert share > 0.99 or "k_proj.bias" in name, (name, share)


def test_a_model_that_cannot_hold_the_small_one_is_refused(known, processor):
    with pytest.raises(ValueError, match="cannot hold"):
        grow(known, build_tiny(processor, hidden_size=64))
    with pytest.raises(ValueError, match="fewer layers"):
        grow(known, build_tiny(processor, layers=2))
    with pytest.raises(ValueError, match=r"cannot hold model.*embed_tokens"):
        grow(known, build_tiny(build_processor()))
