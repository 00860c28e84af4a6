"""Attention on the image along one answer; the last place is padding."""

import torch

MASS = torch.tensor([[0.9, 0.3, 0.2, 0.1, 0.1, 0.0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 0]])
