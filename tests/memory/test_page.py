"""The page computes what the package computes, and can be worked by hand and keys."""

import json
import random
from dataclasses import asdict

import pytest

from vgpo.explorer.memory import memory_view
from vgpo.explorer.page import View, asset
from vgpo.memory.estimating import SPARE, estimate
from vgpo.memory.items import VLLM_BESIDES
from vgpo.memory.page import memory_page
from vgpo.memory.settings import CARDS, OPTIMIZERS, Settings
from vgpo.memory.shapes import shape_of
from vgpo.models.weights import SIZES

GIVEN = {"cards": CARDS, "spare": SPARE, "vllm_besides": VLLM_BESIDES}


def random_settings(draw: random.Random) -> Settings:
    peft = draw.random() < 0.6
    return Settings(
        dtype=draw.choice(["bfloat16", "float32"]),
        bf16=draw.random() < 0.7,
        load_in_4bit=peft and draw.random() < 0.5,
        double_quantisation=draw.random() < 0.7,
        use_peft=peft,
        lora_r=draw.randint(1, 128),
        lora_vision=peft and draw.random() < 0.3,
        optim=draw.choice(OPTIMIZERS),
        gradient_checkpointing=draw.random() < 0.6,
        prompt_tokens=draw.randint(1, 4096),
        image_tokens=draw.choice([0, draw.randint(1, 6000)]),
        max_completion_length=draw.randint(1, 8192),
        per_device_train_batch_size=draw.randint(1, 16),
        steps_per_generation=draw.randint(1, 128),
        logits=draw.choice(["chunked", "whole"]),
        beta=draw.choice([0.0, 0.04]),
        use_vllm=draw.random() < 0.5,
        vllm_mode=draw.choice(["colocate", "server"]),
        vllm_gpu_memory_utilization=round(draw.uniform(0.05, 0.95), 3),
        vllm_tensor_parallel_size=draw.choice([1, 2, 3, 4]),
        vllm_enable_sleep_mode=draw.random() < 0.3,
        processes=draw.randint(1, 33),
        zero_stage=draw.choice([0, 0, 1, 2, 3]),
        card=draw.choice(list(CARDS)),
        device=draw.choice(["cuda", "cuda", "cpu"]),
    )


def test_the_page_computes_what_the_package_computes(browser, tmp_path):
    page = browser.open(View("v", "").save(tmp_path / "v.html"))
    draw = random.Random(0)
    cases = [(draw.choice(SIZES), random_settings(draw)) for _ in range(400)]
    given = [[asdict(shape_of(size)), asdict(s)] for size, s in cases]
    scripts = "\n".join(map(asset, ("page.js", "memory.js")))
    in_page = page.evaluate(
        f"(() => {{ {scripts}\nconst given = {json.dumps(GIVEN)};"
        f"return {json.dumps(given)}.map(([m, s]) => VGPOMemory.estimate(m, s, given));"
        "})()"
    )
    for (size, s), found in zip(cases, in_page, strict=True):
        expected = estimate(size, s)
        assert found["kept"] == expected.kept, s
        assert found["moments"] == expected.moments, s
        told = found["peak"], found["total"], found["fits"], found["sequences"]
        assert told == (
            expected.peak,
            expected.total,
            expected.fits,
            expected.vllm_sequences,
        )
    # What is compared is not all alike.
    assert len({found["peak"] for found in in_page}) >= 4
    assert {found["fits"] for found in in_page} == {True, False}


@pytest.fixture
def page(browser, tmp_path):
    return browser.open(memory_page().save(tmp_path / "memory.html"))


def verdict(page) -> str:
    return page.texts(".vm-verdict")[0]


def test_it_shows_the_estimate_it_starts_with(page):
    settings = Settings(use_peft=True, load_in_4bit=True, card="24 GB")
    found = estimate("7B", settings)
    assert f"{found.total / 1e9:.1f} GB fits a card of 24 GB" in verdict(page)
    rows = page.texts(".vm-table tbody th")
    table = found.to_frame().query("at_peak and bytes > 0")
    assert rows == list(table.index.get_level_values("item"))
    assert page.evaluate("document.querySelectorAll('.vm-bar span').length") == len(
        rows
    )
    page.check()


def test_controls_change_what_is_shown(page):
    before = verdict(page)
    page.choose("select[name=way]", "all weights")
    assert "does not fit a card of 24 GB" in verdict(page)
    assert page.evaluate("document.querySelector('[name=lora_r]').disabled")
    page.choose("select[name=way]", "QLoRA")
    assert verdict(page) == before
    page.choose("select[name=card]", "80 GB")
    page.click("input[name=use_vllm]")
    assert "vLLM" in page.texts(".vm-table tbody th")
    assert "rollouts of 1,508 tokens at once" in page.texts(".vm-out")[0]
    page.choose("select[name=model]", "Qwen2.5-VL-32B")
    assert verdict(page).startswith("Qwen2.5-VL-32B")
    page.check()


def test_keys_reach_and_move_a_slider(page):
    page.evaluate("document.querySelector('[name=image_tokens]').focus()")
    before = verdict(page)
    page.key("End")
    assert page.texts("label output")[2] == "5,348"
    assert verdict(page) != before
    page.key("Tab")
    assert page.evaluate("document.activeElement.name") == "max_completion_length"
    page.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_themes(page, scheme):
    page.prefer(scheme)
    page.resize(420, 900)
    page.settle()
    assert page.sideways() == 0
    ground = page.style(".vgpo-view", "color")
    assert ground == ("rgb(31, 35, 40)" if scheme == "light" else "rgb(227, 230, 234)")


def test_a_view_of_no_model_is_refused():
    with pytest.raises(ValueError, match="shapes: need one"):
        memory_view([], {}, cards={}, optimizers=[], spare=0.1, vllm_besides=0)
