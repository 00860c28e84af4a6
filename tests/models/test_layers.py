"""Cosines over all layers, against transformers' own hidden states."""

import pytest
import torch
from families import FAMILIES, batch, build

from vgpo.models.layers import capture_layer_cosines, decoder_layers


def expected(hidden_states, is_image, length):
    """The mean of cosines, token by token, in float64."""
    rows = []
    for row in range(len(is_image)):
        values = []
        for t in range(-length, 0):
            per_layer = []
            for states in hidden_states:
                state = states[row, t].double()
                others = states[row][is_image[row]].double()
                cosines = torch.nn.functional.cosine_similarity(others, state[None])
                per_layer.append(float(cosines.mean()) if len(others) else 0.0)
            values.append(sum(per_layer) / len(per_layer))
        rows.append(values)
    return torch.tensor(rows)
