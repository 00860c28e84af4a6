"""Studies of a model that runs on another device than the CPU."""

import numpy as np
import pandas as pd
import pytest
import torch
from elsewhere import another_device, moved

from vgpo.studies import focus
from vgpo.studies.controls import answers_beside_nulls, rule_and_grey
from vgpo.studies.experiments.evaluation import Evaluation, Part, evaluate
from vgpo.studies.probes import early_answers, tile_probe
from vgpo.studies.quantization import precision_table
from vgpo.studies.signals.measure import signal_table
from vgpo.studies.signals.methods import shaped_by_methods
from vgpo.studies.signals.record import costs
from vgpo.studies.tables import table_beside_controls, token_table
from vgpo.studies.worlds import answers_table
from vgpo.testbed import World, load_tiny
from vgpo.testbed.answers import answer

EXAMPLES = [World().example(i, family=f) for i, f in enumerate(("sum", "chart"))]
CHAINS = [example.completion for example in EXAMPLES]
GROUP = [CHAINS[0], CHAINS[0].replace("boxed{", "boxed{9")]

FEW = Evaluation((Part("sampled", questions=1),), max_new_tokens=8)


def states(model, processor):
    """All that is made of the states of chains, in one array."""
    chains = focus.chain_states(model, processor, EXAMPLES)
    rows = token_table(model, processor, EXAMPLES)["row"]
    words = focus.word_direction(model, processor, ["red", "green"])
    numbers = [
        focus.own_digit_shares(model, processor, chains, EXAMPLES),
        focus.digit_probability(model, processor, chains.image).cpu().numpy(),
        focus.projected_focus(chains, rows),
        focus.projected_focus(chains, rows, words),
        focus.cosines(chains, rows),
    ]
    return pd.DataFrame({"number": np.concatenate(numbers)})


def shaped(model, processor):
    group = shaped_by_methods(model, processor, EXAMPLES[0], GROUP)
    return pd.concat([group.of(0), group.of(1)])


STUDIES = {
    "tokens": lambda m, p: table_beside_controls(m, p, EXAMPLES),
    "attention": lambda m, p: focus.attention_table(m, p, EXAMPLES),
    "occlusion": lambda m, p: focus.occlusion_table(m, p, EXAMPLES),
    "states": states,
    "answers": lambda m, p: answers_table(m, p, EXAMPLES, CHAINS),
    "signals": lambda m, p: signal_table(m, p, EXAMPLES, CHAINS),
    "methods": shaped,
    "costs": lambda m, p: costs(m, p, EXAMPLES, CHAINS, 1).drop(columns="time"),
    "nulls": lambda m, p: answers_beside_nulls(m, p, EXAMPLES, CHAINS),
    "rule": lambda m, p: rule_and_grey(m, p, EXAMPLES),
    "tiles": lambda m, p: tile_probe(m, p, EXAMPLES, CHAINS),
    "early": lambda m, p: early_answers(m, p, EXAMPLES, CHAINS, (0.5,)),
    "precision": lambda m, p: precision_table(m, {"same": m}, p, EXAMPLES),
    "generated": lambda m, p: pd.DataFrame(answer(m, p, EXAMPLES, max_new_tokens=8)),
    "evaluated": lambda m, p: evaluate(m, p, "misread", FEW)[0],
}


@pytest.fixture(scope="module")
def there():
    """A model on another device, and its processor."""
    model, processor = load_tiny()
    with another_device() as device:
        model = moved(model)
        assert model.device == device
    return model, processor


@pytest.mark.parametrize("name", list(STUDIES))
def test_a_study_of_a_model_elsewhere_has_the_same_numbers(name, there, tiny):
    expected = STUDIES[name](*tiny)
    with another_device():
        found = STUDIES[name](*there)
    pd.testing.assert_frame_equal(found, expected, check_exact=False, atol=1e-5)


def test_what_is_left_on_the_cpu_is_noticed(there):
    model, _ = there
    with another_device(), pytest.raises(RuntimeError, match="at least two devices"):
        model(input_ids=torch.ones(1, 4, dtype=torch.long))
