"""Every neighbour under the trainer: two steps, its numbers in the log, its views."""

import pytest
import torch
from peft import LoraConfig
from PIL import Image
from tiny_training import GROUP, Scripted, model, rows_of, split, train

from vgpo.method.shaping import METHODS
from vgpo.models.probes import PROBES, MaskedLogProbs, black_squares

LOGGED = {
    "papo": "papo/k3",
    "papo_grpo": "papo/k3",
    "vppo": "vppo/dependence",
    "pepo": "pepo/weight_std",
    "pepo_grpo": "pepo/weight_std",
    "entropy": "entropy_shaping/bonus",
    "gpg": "gpg/useful_share",
    "srpo": "srpo/no_spans_share",
}


def logged(trainer, name):
    return [row[name] for row in trainer.state.log_history if name in row]


@pytest.mark.parametrize("name", LOGGED)
def test_method_trains_and_logs_its_numbers(name, tmp_path):
    trainer = train(tmp_path, Scripted, method=name, max_steps=2)
    numbers = logged(trainer, LOGGED[name])
    assert len(numbers) == 2 and all(number is not None for number in numbers)
    assert all(norm > 0 for norm in logged(trainer, "grad_norm"))


def right_or_wrong(completion_ids, answer, **columns):
    """0 or 1 by the first token; always 1 where the answer is an even number."""
    return [
        1.0 if int(wanted) % 2 == 0 else float(ids[0] % 2)
        for ids, wanted in zip(completion_ids, answer, strict=True)
    ]


def test_gpg_samples_groups_without_signal_again_or_makes_up_for_them(tmp_path):
    fields = {
        "method": "gpg",
        "reward_funcs": right_or_wrong,
        "max_steps": 4,
        **METHODS["gpg"].preset,
    }
    without = train(tmp_path / "a", Scripted, **fields)
    again = train(
        tmp_path / "b",
        Scripted,
        dynamic_sampling=True,
        dynamic_sampling_max_attempts=20,
        **fields,
    )
    shares = logged(without, "gpg/useful_share")
    assert without.calls == 4 and min(shares) < 1
    assert logged(again, "gpg/useful_share") == [1.0] * 4 and again.calls > 4
    # Over the share of useful groups, what is left of a batch is as large as a whole.
    for seen, share in zip(without.seen, shares, strict=True):
        rows = split(seen)
        useful = [row for row in rows if row["advantages"].abs().max() > 0]
        assert len(useful) == pytest.approx(share * len(rows))
        for row in useful:
            value = float(row["advantages"].reshape(-1)[0]) * (share + 1e-5)
            # Less the mean of four rewards of 0 and 1, not divided by their spread.
            assert 4 * value == pytest.approx(round(4 * value), abs=1e-3)


@pytest.mark.parametrize("name", ["papo", "pepo"])
def test_method_trains_adapters(name, tmp_path):
    kwargs = {"variant": "released"} if name == "pepo" else {}
    trainer = train(
        tmp_path,
        Scripted,
        method=name,
        method_kwargs=kwargs,
        max_steps=2,
        peft_config=LoraConfig(r=2, target_modules=["q_proj", "v_proj"]),
    )
    assert all(norm > 0 for norm in logged(trainer, "grad_norm"))


def trained(folder, **options):
    trainer = train(folder, Scripted, model=model(layers=3), **options)
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("reentrant", [False, True])
def test_released_pepo_takes_other_steps_than_detached(reentrant, tmp_path):
    """And the same with activations computed again."""
    fields = {"method": "pepo_grpo", "max_steps": 2, "optim": "sgd"}
    settings = {"alpha": 1.0, "temperature": 0.1}
    detached = trained(tmp_path, method_kwargs=settings, **fields)
    settings = {**settings, "variant": "released"}
    plain = trained(tmp_path, method_kwargs=settings, **fields)
    again = trained(
        tmp_path,
        method_kwargs=settings,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": reentrant},
        **fields,
    )
    assert any(not torch.equal(detached[name], plain[name]) for name in plain)
    for name, values in plain.items():
        torch.testing.assert_close(again[name], values, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["papo", "vppo", "srpo"])
def test_rows_without_image_are_left_as_they_are(name, tmp_path):
    trainer = train(
        tmp_path,
        Scripted,
        method=name,
        max_steps=1,
        train_dataset=rows_of("sum", "text"),
    )
    plain = train(
        tmp_path,
        Scripted,
        method="grpo",
        max_steps=1,
        train_dataset=rows_of("sum", "text"),
    )
    found = 0
    wanted = {
        tuple(row["completion"].tolist()): float(row["advantages"])
        for seen in plain.seen
        for row in split(seen)
    }
    for row in (row for seen in trainer.seen for row in split(seen)):
        if "pixel_values" in row:
            continue
        base = wanted[tuple(row["completion"].tolist())]
        values = row["advantages"].reshape(-1)
        real = row["mask"].bool() if len(values) > 1 else slice(None)
        assert (values[real] == base).all()
        found += 1
    assert found == GROUP


def test_a_picture_of_squares_is_what_the_processor_is_given(tmp_path, monkeypatch):
    """PAPO's view, with every square black: the pixels of a black picture."""
    views = []
    original = MaskedLogProbs.measure

    def measure(self, scored):
        black = [[Image.new("RGB", one.size) for one in row] for row in scored.pictures]
        views.append((scored.reprocess(black), scored.pixels))
        assert torch.equal(
            torch.cat(list(scored.reprocess(scored.pictures))),
            torch.cat(list(scored.pixels)),
        )
        rows = scored.pictures
        again = [
            [black_squares(p, 1.0, torch.Generator()) for p in row] for row in rows
        ]
        assert torch.equal(
            torch.cat(list(scored.reprocess(again))), torch.cat(views[-1][0])
        )
        return original(self, scored)

    monkeypatch.setattr(PROBES["masked_log_probs"], "measure", measure)
    train(
        tmp_path,
        Scripted,
        method="papo",
        max_steps=1,
        train_dataset=rows_of("sum", "text"),
    )
    (black, given), *_ = views
    assert [x.shape for x in black] == [x.shape for x in given]
    assert any(not torch.equal(a, b) for a, b in zip(black, given, strict=True))


@pytest.mark.parametrize("name", [*LOGGED, "vgpo"])
def test_every_number_of_a_method_is_explained_in_the_book(name, root, tmp_path):
    fields = {"variant": "released"} if name == "vgpo" else {}
    trainer = train(tmp_path, Scripted, method=name, max_steps=1, **fields)
    page = (root / "book" / "recipes.md").read_text(encoding="utf-8")
    prefixes = ("papo/", "vppo/", "pepo/", "entropy_shaping/", "gpg/", "srpo/")
    ours = {
        key
        for row in trainer.state.log_history
        for key in row
        if key.startswith((*prefixes, "visual/"))
    }
    assert ours
    assert not {key for key in ours if f"`{key}`" not in page}
