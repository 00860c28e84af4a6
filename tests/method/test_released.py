"""The released variant against vectors recorded from the released functions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vgpo import released

GOLDEN = sorted((Path(__file__).parent / "golden").glob("case*.npz"))
OUTPUTS = {
    "cosine": "cosine",
    "focus": "focus_minmax",
    "compensation": "compensation",
    "gate": "gate",
    "intra_normalized": "intra_normalized",
    "intra_factor": "intra_factor",
    "inter_factor": "inter_factor",
}
DEFAULTS = {
    "strength": 0.3,
    "start_ratio": 0.5,
    "top_ratio": 0.2,
    "schedule": "linear",
    "gated": True,
    "num_generations": 4,
}


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return {
            key: value if value.ndim else value.item() for key, value in file.items()
        }


def settings(case):
    return {
        "strength": case["beta"],
        "start_ratio": case["gate_start_ratio"],
        "top_ratio": case["kappa"],
        "schedule": case["schedule"],
        "gated": case["gated"],
        "num_generations": case["rollout_n"],
        "exponent": case["exponent"],
        "step_ratio": case["step_ratio"],
    }


def test_all_recorded_cases_are_here():
    assert [path.stem for path in GOLDEN] == [f"case{i}" for i in range(5)]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_equals_the_recorded_vectors(path):
    case = load(path)
    factors = released.advantage_factors(
        torch.from_numpy(case["hidden_states"]),
        torch.from_numpy(case["input_ids"]),
        torch.from_numpy(case["response_mask"]),
        case["image_token_id"],
        **settings(case),
    )
    for name, key in OUTPUTS.items():
        ours = getattr(factors, name).numpy()
        np.testing.assert_allclose(ours, case[key], rtol=0, atol=1e-5, err_msg=name)
    assert factors.cosine.mean().item() == pytest.approx(
        case["mean_similarity"], abs=1e-5
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_recorded_cosines_give_the_recorded_factors(path):
    case = load(path)
    factors = released.factors_from_cosines(
        torch.from_numpy(case["cosine"]),
        torch.from_numpy(case["response_mask"]),
        **settings(case),
    )
    for name, key in OUTPUTS.items():
        ours = getattr(factors, name).numpy()
        np.testing.assert_allclose(ours, case[key], rtol=0, atol=1e-5, err_msg=name)


def random_cosines(rows, tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(rows, tokens, generator=generator) * 2 - 1
    lengths = torch.randint(1, tokens + 1, (rows,), generator=generator)
    return cosines, torch.arange(tokens) < lengths[:, None]


def test_ties_at_the_threshold_all_pass():
    cosines = torch.tensor([[0.9, 0.9, 0.9, 0.1, 0.4, 0.4, 0.4, 0.2]])
    mask = torch.ones(1, 8)
    gate = released.factors_from_cosines(cosines, mask, **DEFAULTS).gate
    assert gate.tolist() == [[0, 0, 0, 0, 1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("tokens", "start_ratio", "top_ratio"),
    [(100, 0.29, 0.29), (30, 0.1, 0.7), (15, 0.2, 0.2), (7, 0.3, 1.0)],
)
def test_tail_and_gate_use_the_floors_of_python_floats(tokens, start_ratio, top_ratio):
    start = int(tokens * start_ratio)
    kept = max(1, int(top_ratio * (tokens - start)))
    cosines = torch.linspace(-1, 1, tokens)[torch.randperm(tokens)][None]
    options = DEFAULTS | {"start_ratio": start_ratio, "top_ratio": top_ratio}
    gate = released.factors_from_cosines(cosines, torch.ones(1, tokens), **options).gate
    assert gate[0, :start].sum() == 0
    assert gate[0, start:].sum() == kept


def test_rows_left_over_keep_factor_one():
    cosines, mask = random_cosines(11, 9)
    factor = released.factors_from_cosines(cosines, mask, **DEFAULTS).inter_factor
    assert factor[8:].tolist() == [1, 1, 1]
    assert (factor[:8] != 1).any()


def test_batch_smaller_than_a_group_is_one_group():
    cosines, mask = random_cosines(3, 9)
    options = DEFAULTS | {"num_generations": 8}
    few = released.factors_from_cosines(cosines, mask, **options)
    exact = released.factors_from_cosines(
        cosines, mask, **DEFAULTS | {"num_generations": 3}
    )
    assert torch.equal(few.inter_factor, exact.inter_factor)


@pytest.mark.parametrize("seed", range(5))
def test_clamps_hold_and_the_lower_one_binds(seed):
    cosines, mask = random_cosines(8, 20, seed)
    factors = released.factors_from_cosines(cosines, mask, **DEFAULTS)
    assert factors.intra_factor.min() >= 0.1 and factors.intra_factor.max() <= 2
    assert factors.inter_factor.min() == torch.tensor(0.9)
    # The mean of unclamped factors is 1; the clamp only lifts.
    assert factors.inter_factor.mean() > 1
    assert (factors.intra_factor[~mask] == 1).all()


def test_row_without_image_drops_to_the_clamp():
    cosines, mask = random_cosines(4, 9)
    has_image = torch.tensor([True, True, True, False])
    factors = released.factors_from_cosines(
        cosines, mask, has_image=has_image, **DEFAULTS
    )
    assert factors.intra_normalized[3].sum() == 0
    assert factors.intra_factor[3].tolist() == [1.0] * 9
    assert factors.inter_factor[3] == torch.tensor(0.9)


def test_rows_without_image_are_found_from_the_token_ids():
    states = torch.randn(2, 9, 4)
    ids = torch.tensor([[7, 7, 1, 1, 1, 1, 1, 1, 1], [1] * 9])
    factors = released.advantage_factors(states, ids, torch.ones(2, 6), 7, **DEFAULTS)
    assert factors.cosine[1].tolist() == [0.0] * 6
    assert factors.intra_factor[1].tolist() == [1.0] * 6
    assert factors.cosine[0].abs().max() > 0


def test_padding_states_count_as_zeros():
    case = load(GOLDEN[0])
    states = torch.from_numpy(case["hidden_states"])
    mask = torch.from_numpy(case["response_mask"]).bool()
    garbled = states.clone()
    garbled[:, case["prompt_length"] :][~mask] = torch.nan
    arguments = (torch.from_numpy(case["input_ids"]), mask, case["image_token_id"])
    clean = released.advantage_factors(states, *arguments, **settings(case))
    dirty = released.advantage_factors(garbled, *arguments, **settings(case))
    assert torch.equal(clean.intra_factor, dirty.intra_factor)
    assert torch.equal(clean.inter_factor, dirty.inter_factor)


def test_no_gradient_and_float32_from_bfloat16():
    states = torch.randn(2, 9, 4, requires_grad=True)
    ids = torch.tensor([[7, 7, 1, 1, 1, 1, 1, 1, 1]] * 2)
    for given in (states, states.bfloat16()):
        factors = released.advantage_factors(
            given, ids, torch.ones(2, 6), 7, **DEFAULTS
        )
        for value in vars(factors).values():
            assert not value.requires_grad
            assert value.dtype == torch.float32
            assert value.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "cosine"}, "schedule"),
        ({"start_ratio": 1.2}, "start_ratio"),
        ({"top_ratio": -0.1}, "top_ratio"),
        ({"num_generations": 0}, "num_generations"),
    ],
)
def test_bad_settings_are_named(change, message):
    cosines, mask = random_cosines(4, 9)
    with pytest.raises(ValueError, match=message):
        released.factors_from_cosines(cosines, mask, **DEFAULTS | change)


def test_bad_shapes_are_named():
    states, ids = torch.randn(2, 9, 4), torch.ones(2, 9, dtype=torch.long)
    with pytest.raises(ValueError, match="hidden_states"):
        released.advantage_factors(states[0], ids, torch.ones(2, 6), 7, **DEFAULTS)
    with pytest.raises(ValueError, match="input_ids"):
        released.advantage_factors(states, ids[:, :8], torch.ones(2, 6), 7, **DEFAULTS)
    with pytest.raises(ValueError, match="completion_mask"):
        released.advantage_factors(states, ids, torch.ones(6), 7, **DEFAULTS)
    with pytest.raises(ValueError, match="has_image"):
        released.factors_from_cosines(
            torch.rand(2, 6), torch.ones(2, 6), has_image=torch.ones(3), **DEFAULTS
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_cuda_equals_cpu(path):
    case = load(path)
    given = [
        torch.from_numpy(case[key])
        for key in ("hidden_states", "input_ids", "response_mask")
    ]
    factors = released.advantage_factors(
        *(tensor.cuda() for tensor in given), case["image_token_id"], **settings(case)
    )
    for name, key in OUTPUTS.items():
        ours = getattr(factors, name)
        assert ours.is_cuda
        np.testing.assert_allclose(ours.cpu().numpy(), case[key], rtol=0, atol=1e-5)
