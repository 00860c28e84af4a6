"""The heads of the recipes and the page on them say what the calculator says."""

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.memory.test_estimate import LOOSER, TOLERANCE
from vgpo.memory.estimating import SPARE, Estimate, estimate
from vgpo.memory.settings import Settings

MEGAPIXEL = 2**20 // 28**2
RECIPES = {
    "qwen2_5_vl_3b_lora_1gpu": ("3B", {"card": "40 GB"}),
    "qwen2_5_vl_7b_qlora_1gpu": ("7B", {"card": "24 GB"}),
    "qwen2_5_vl_7b_8gpu": (
        "7B",
        {"processes": 8, "zero_stage": 3, "image_tokens": MEGAPIXEL},
    ),
    "qwen2_5_vl_32b_multinode": (
        "32B",
        {"processes": 32, "zero_stage": 3, "image_tokens": MEGAPIXEL},
    ),
}


def of_recipe(name: str, **more) -> Estimate:
    text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    model, changes = RECIPES[name]
    settings = Settings.of_recipe(yaml.safe_load(text) | more, **changes)
    return estimate(model, settings)


def in_head(found: Estimate) -> str:
    """As comment lines of a recipe."""
    return "\n".join(f"#   {line}" for line in str(found).splitlines())


@pytest.mark.parametrize("name", RECIPES)
def test_the_head_of_a_recipe_is_the_estimate(name):
    head = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    expected = in_head(of_recipe(name))
    assert expected in head, f"recipes/{name}.yaml should hold\n{expected}"
    assert f"a card of {RECIPES[name][1].get('card', '80 GB')}." in head
    assert of_recipe(name).fits


def test_the_ladder_has_the_totals():
    page = Path(ROOT / "book" / "recipes.md").read_text(encoding="utf-8")
    ladder = page[page.index("### A ladder") : page.index("### How long")]
    told = re.findall(r"(\d+) GB, estimated", ladder)
    found = [of_recipe(name) for name in list(RECIPES)[:2]]
    by_vllm = estimate("7B", rung_4())
    found.append(by_vllm)
    found += [of_recipe(name) for name in list(RECIPES)[2:]]
    assert told == [f"{one.total / 1e9:.0f}" for one in found]
    assert by_vllm.fits


def test_the_page_says_what_was_measured():
    page = (ROOT / "book" / "memory.md").read_text(encoding="utf-8")
    name = "log-probabilities"
    whole = estimate("7B", use_peft=True, logits="whole").moments["loss"][name]
    tiles = estimate("7B", use_peft=True).moments["loss"][name]
    assert f"would be {whole / 1e9:.1f} GB at 152,064 words" in page
    assert f"with tiles it is {tiles / 1e9:.1f} GB" in page
    told = re.findall(r"within (\d+) %", page)
    assert told == [f"{100 * one:.0f}" for one in (TOLERANCE, LOOSER, LOOSER)]
    assert "a tenth of the card" in page and SPARE == 0.1


def rung_4() -> Settings:
    """The command below the ladder, on a card of 80 GB."""
    text = (ROOT / "recipes" / "qwen2_5_vl_7b_qlora_1gpu.yaml").read_text()
    page = Path(ROOT / "book" / "recipes.md").read_text(encoding="utf-8")
    command = page[page.index("Rung 4, for a card") :]
    given = re.findall(r"--(\w+) (\S+)", command[: command.index("### How long")])
    fields = {name: yaml.safe_load(value) for name, value in given}
    return Settings.of_recipe(yaml.safe_load(text) | fields)
