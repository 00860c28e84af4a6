"""The measures of the focus chapter against independent references."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from vgpo import attention_split
from vgpo.studies import focus as focus_study
from vgpo.studies.tables import token_table
from vgpo.testbed import World, build_processor, build_tiny, messages
from vgpo.testbed.changes import occlude, perturb

processor = build_processor()
model = build_tiny(processor, seed=3, hidden_size=64, layers=2).eval()
EXAMPLES = [
    World(verbosity=0.4).example(i, family=family)
    for i, family in enumerate(("sum", "count", "chart"))
]


@pytest.fixture(scope="module")
def table():
    table = token_table(model, processor, EXAMPLES)
    return table.assign(role=focus_study.token_roles(table))


@pytest.fixture(scope="module")
def occluded():
    return focus_study.occlusion_table(model, processor, EXAMPLES)


# Tables ----------------------------------------------------------------------


def test_roles_of_a_counting_chain(table):
    counting = table[table["row"] == 1]
    by_word = dict(zip(counting["t"], counting["role"], strict=True))
    words = counting["token"].str.strip().tolist()
    place = words.index("=")  # <think> colour = value yes/no count .
    expected = ["colour read", "= before a read", "value read", "syntax", "result"]
    assert [by_word[place + i] for i in range(5)] == expected
    assert set(table["role"]) <= set(focus_study.ROLES)


def test_roles_tell_reads_from_repetitions():
    text = " red = 5 . green = 3 . 5 + 3 = 8 .</think>"
    ids = processor.tokenizer(text).input_ids
    words = [processor.tokenizer.decode(token) for token in ids]
    table = pd.DataFrame({"row": 0, "token": words, "source": "text", "truth": None})
    table.loc[[2, 6], "source"], table.loc[[2, 6], "truth"] = "image", " 5"
    roles = focus_study.token_roles(table)
    assert roles[[8, 10]].tolist() == ["number repeated"] * 2
    assert roles[[11, 12]].tolist() == ["= before a result", "result"]
    assert roles[[1, 5]].tolist() == ["= before a read"] * 2


def test_one_role_at_a_time(table):
    found = focus_study.auroc_against_roles(table, resamples=10).set_index(
        ["role", "score"]
    )
    pair = table[table["role"].isin(["value read", "syntax"])]
    expected = roc_auc_score(pair["role"] == "value read", pair["focus"])
    assert found.loc[("syntax", "token"), "auroc"] == pytest.approx(expected)


def test_focus_around_reads_shifts_by_position():
    table = pd.DataFrame(
        {
            "row": [0, 0, 0, 1, 1],
            "focus": [0.1, 0.2, 0.3, 0.4, 0.5],
            "role": ["syntax", "value read", "syntax", "value read", "syntax"],
        }
    )
    lags = focus_study.focus_around_reads(table, reach=1)
    assert lags.groupby("lag")["focus"].apply(list).to_dict() == {
        -1: [0.1],
        0: [0.2, 0.4],
        1: [0.3, 0.5],
    }


def test_roles_of_the_highest_focus():
    table = pd.DataFrame(
        {
            "row": np.repeat([0, 1], 5),
            "focus": [0.1, 0.9, 0.2, 0.3, 0.4, 0.8, 0.1, 0.2, 0.3, 0.7],
            "role": ["syntax", "value read", "syntax", "syntax", "filler"] * 2,
        }
    )
    found = focus_study.highest_focus_roles(table, "focus", top_ratio=0.4)
    # Chosen: 0.9 and 0.4 of the first completion, 0.8 and 0.7 of the second.
    assert found["of the highest"].to_dict() == {
        "filler": 0.5,
        "value read": 0.25,
        "syntax": 0.25,
    }
    assert found["lift"].to_dict() == pytest.approx(
        {"filler": 2.5, "value read": 1.25, "syntax": 0.25 / 0.6}
    )


def test_attention_of_a_row_is_that_of_a_pass_of_its_own(table):
    found = focus_study.attention_table(model, processor, EXAMPLES)
    assert len(found) == 2 * len(table)
    example = EXAMPLES[1]
    text = processor.apply_chat_template(messages(example), add_generation_prompt=True)
    batch = processor(
        text=text + example.completion, images=[example.image], return_tensors="pt"
    )
    for column, alignment in (
        ("attention", "token"),
        ("attention_prediction", "prediction"),
    ):
        split = attention_split(
            model,
            dict(batch),
            len(example.chain),
            layers=(1,),
            alignment=alignment,
            special_token_ids=processor.tokenizer.all_special_ids,
        )
        mine = found[(found["row"] == 1) & (found["layer"] == 1)].sort_values("t")
        expected = split.masses[0, :, 0]
        np.testing.assert_allclose(mine[column], expected, atol=1e-5)


def test_attention_correlations_pair_positions(table):
    layer_of = table[["row", "t"]].assign(
        layer=0,
        attention=table["focus"],
        attention_prediction=-table["focus_prediction"],
    )
    found = focus_study.attention_correlations(table, layer_of, resamples=5)
    r = found[found["scope"] == "pooled"].set_index(["focus", "attention"])["r"]
    assert r["token", "token"] == pytest.approx(1)
    assert r["prediction", "prediction"] == pytest.approx(-1)


# Pictures --------------------------------------------------------------------


def test_fall_of_a_read_is_that_of_its_own_tile(table, occluded):
    read = occluded[(occluded["row"] == 1) & (occluded["role"] == "value read")]
    first, others = read.iloc[0], read.iloc[1:]
    tiles = list(dict.fromkeys(read["tiles"]))
    alone = {
        hidden: token_table(model, processor, [occlude(EXAMPLES[1], hidden)])
        .set_index("t")
        .loc[first["t"], "log_prob"]
        for hidden in tiles
    }
    own = alone.pop(first["tiles"])
    assert len(others) and len(alone)
    assert first["drop_tile"] == pytest.approx(first["log_prob"] - own, abs=1e-4)
    elsewhere = first["log_prob"] - np.mean(list(alone.values()))
    assert first["drop_elsewhere"] == pytest.approx(elsewhere, abs=1e-4)
    text = occluded["source"] != "image"
    assert occluded.loc[text, ["drop_tile", "drop_elsewhere"]].isna().all(axis=None)
    assert occluded["drop_image"].notna().all()
    assert len(occluded) == len(table)


def test_robustness_is_spearmans_correlation_per_completion():
    darker = [perturb(e, "brightness", 0.3) for e in EXAMPLES]
    changed = focus_study.robustness_table(
        model, processor, EXAMPLES, {"same": EXAMPLES, "darker": darker}
    )
    summary = focus_study.robustness_summary(changed, resamples=20)
    assert summary.loc["same", ["token", "prediction"]].tolist() == pytest.approx(
        [1, 1]
    )
    dark = changed[changed["variant"] == "darker"]
    by_hand = [
        spearmanr(part["focus"], part["focus_before"]).statistic
        for _, part in dark.groupby("row")
    ]
    assert summary.loc["darker", "token"] == pytest.approx(np.mean(by_hand))
    assert summary.loc["darker", "token"] < 1
    # The rule says yes or no, so a pair that it does not tell apart is half a win.
    tokens, rows = dark["token"].str.strip().tolist(), dark["row"].tolist()
    says = np.array(
        [
            i > 0 and rows[i] == rows[i - 1] and tokens[i - 1] == "="
            for i in range(len(rows))
        ],
        dtype=float,
    )
    reads = dark["role"].isin(["value read", "colour read"]).to_numpy()
    apart = np.sign(says[reads][:, None] - says[~reads])
    assert summary.loc["darker", "rule"] == pytest.approx((1 + apart.mean()) / 2)
    with pytest.raises(ValueError, match="variants"):
        focus_study.robustness_table(model, processor, EXAMPLES, {"few": darker[:1]})


# States ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def chains():
    return focus_study.chain_states(model, processor, EXAMPLES, batch_size=2)


def test_states_before_tokens_give_their_focus(table, chains):
    focus = focus_study.projected_focus(chains, table["row"])
    np.testing.assert_allclose(focus, table["focus_prediction"], atol=1e-5)
    tiles = [e.rows * e.columns for e in EXAMPLES]
    assert np.bincount(chains.image_row).tolist() == tiles
    mean = chains.image[chains.image_row == 2].mean(dim=0)
    torch.testing.assert_close(chains.prototypes[2], mean, atol=1e-5, rtol=1e-4)


def test_cosines_are_of_image_tokens_and_then_of_chains(table, chains):
    found = focus_study.cosines(chains, table["row"])
    images, before = np.split(found, [len(chains.image)])
    np.testing.assert_allclose((before + 1) / 2, table["focus_prediction"], atol=1e-5)
    for state, row, cosine in zip(chains.image, chains.image_row, images, strict=True):
        h, mu = (v.numpy().astype(float) for v in (state, chains.prototypes[row]))
        expected = h @ mu / np.linalg.norm(h) / np.linalg.norm(mu)
        assert cosine == pytest.approx(expected, abs=1e-5)


def test_projecting_directions_out(table, chains):
    directions = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    found = focus_study.projected_focus(chains, table["row"], directions)
    span = directions.numpy().T.astype(float)

    def rest(vector):
        vector = vector.numpy().astype(float)
        return vector - span @ np.linalg.lstsq(span, vector, rcond=None)[0]

    for i in (0, len(table) // 2, len(table) - 1):
        h = rest(chains.before[i])
        mu = rest(chains.prototypes[table["row"].iloc[i]])
        cosine = h @ mu / np.linalg.norm(h) / np.linalg.norm(mu)
        assert found[i] == pytest.approx((cosine + 1) / 2, abs=1e-5)


def test_what_the_head_says(chains):
    shares = focus_study.own_digit_shares(model, processor, chains, EXAMPLES)
    logits = model.lm_head(chains.image).detach()
    for share, row in zip(shares, (0, 1), strict=True):  # the chart is left out
        best = logits[torch.tensor(chains.image_row == row)].argmax(dim=1)
        own = [
            processor.tokenizer(f" {value}").input_ids[0]
            for value in EXAMPLES[row].values
        ]
        also = [processor.tokenizer(str(v)).input_ids[0] for v in EXAMPLES[row].values]
        hits = [b in pair for b, *pair in zip(best.tolist(), own, also, strict=True)]
        assert share == pytest.approx(np.mean(hits))
    digits = [processor.tokenizer(f" {d}").input_ids[0] for d in range(10)]
    expected = logits.softmax(dim=1)[:, digits].sum(dim=1)
    found = focus_study.digit_probability(model, processor, chains.image)
    torch.testing.assert_close(found, expected)


def test_direction_of_words():
    found = focus_study.word_direction(model, processor, ["red", "green"])
    ids = processor.tokenizer(" red green").input_ids
    expected = model.lm_head.weight[ids].mean(dim=0, keepdim=True)
    torch.testing.assert_close(found, expected.detach())
    with pytest.raises(ValueError, match="words"):
        focus_study.word_direction(model, processor, ["elephant"])
