"""What is no tensor, or no mask, is refused by name, with the way to make one."""

import numpy as np
import pytest
import torch

import vgpo
from vgpo.method.compensation import compensated_weights
from vgpo.method.focus import visual_cosine

STATES = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
IMAGE = torch.zeros(2, 9, dtype=torch.bool)
IMAGE[:, :3] = True
PROTOTYPE = STATES[:, :3].mean(dim=1)
ROWS = torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
MASK = torch.ones(2, 5)
GROUPS = torch.zeros(2, dtype=torch.long)

CALLS = {
    vgpo.visual_prototype: {"hidden_states": STATES, "image_mask": IMAGE},
    vgpo.visual_focus_score: {"hidden_states": STATES, "prototype": PROTOTYPE},
    visual_cosine: {
        "hidden_states": STATES[:, :5],
        "prototype": PROTOTYPE,
        "completion_mask": MASK,
    },
    vgpo.completion_states: {"hidden_states": STATES, "completion_length": 5},
    vgpo.compensation_schedule: {"completion_mask": MASK},
    vgpo.visual_gate: {"focus": ROWS, "completion_mask": MASK},
    vgpo.compensate: {"focus": ROWS, "completion_mask": MASK},
    compensated_weights: {"focus": ROWS, "completion_mask": MASK},
    vgpo.intra_trajectory_weights: {"weights": ROWS, "completion_mask": MASK},
    vgpo.inter_trajectory_weights: {
        "weights": ROWS,
        "completion_mask": MASK,
        "group_ids": GROUPS,
    },
    vgpo.reweight_advantages: {
        "advantages": ROWS[:, 0],
        "psi": ROWS,
        "phi": ROWS[:, 0],
    },
}
TENSORS = [
    pytest.param(function, name, id=f"{function.__name__}-{name}")
    for function, arguments in CALLS.items()
    for name, value in arguments.items()
    if isinstance(value, torch.Tensor)
]
MASKS = [case for case in TENSORS if case.values[1].endswith("mask")]


@pytest.mark.parametrize("other", [torch.Tensor.tolist, torch.Tensor.numpy])
@pytest.mark.parametrize(("function", "name"), TENSORS)
def test_a_list_or_an_array_is_refused_by_name(function, name, other):
    arguments = dict(CALLS[function])
    function(**arguments)
    arguments[name] = other(arguments[name])
    kind = type(arguments[name]).__name__
    message = rf"^{name}: must be a torch\.Tensor, got {kind}; torch\.as_tensor"
    with pytest.raises(ValueError, match=message):
        function(**arguments)


@pytest.mark.parametrize("value", [2, -1, 151_655, 0.5, float("nan")])
@pytest.mark.parametrize(("function", "name"), MASKS)
def test_ids_or_weights_are_no_mask(function, name, value):
    # Any number but 0 would otherwise count as True: with the token ids themselves in
    # its place, a whole prompt became the picture.
    arguments = dict(CALLS[function])
    given = arguments[name].to(torch.tensor(value).dtype)
    given[1, 2] = value
    with pytest.raises(ValueError, match=rf"^{name}: must be True or 1 .* got"):
        function(**arguments | {name: given})


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.half])
def test_a_mask_may_be_of_any_type(dtype):
    mask = torch.from_numpy(np.array([[0, 1, 1, 1, 1], [1, 1, 0, 0, 1]]))
    expected = vgpo.compensate(ROWS, mask.bool())
    assert torch.equal(vgpo.compensate(ROWS, mask.to(dtype)), expected)
