"""What the mathematics costs: scoring states (Eq. 3-4), and Eq. 4-12 on scores.

    python -m benchmarks scoring

- Prototype and focus score of four rows of a 7B model, in float32 and bfloat16,
  against one read of the same states (``sum()``): at most 3. Every token is scored,
  also those of the image; "as in a rollout" scores only what follows the image.
- The same against a loop that takes one token's cosine at a time and reads it back,
  which is how the released code is described to work.
- Eq. 4-12 from cosines to advantages of 64 completions of 2,048 tokens, and how the
  time grows when rows or tokens are doubled: about 2 if nothing is quadratic.
"""

import torch
from torch.nn.functional import cosine_similarity

from benchmarks.harness import measure, print_table, write
from vgpo import (
    compensate,
    inter_trajectory_weights,
    intra_trajectory_weights,
    reweight_advantages,
    visual_focus_score,
    visual_prototype,
)

ROWS, TOKENS, WIDTH, IMAGE_TOKENS = 4, 1024, 3584, 256
GENERATIONS = 8
LIMIT = 3.0
"""Most that scoring may take, in reads of the states."""


def score_states(hidden_states, image_mask):
    return visual_focus_score(
        hidden_states, visual_prototype(hidden_states, image_mask)
    )


def score_token_by_token(hidden_states, image_mask):
    """One cosine per token, each read back to Python before the next."""
    scores = torch.zeros(hidden_states.shape[:2])
    for row, (states, mask) in enumerate(zip(hidden_states, image_mask, strict=True)):
        prototype = states[mask].float().mean(dim=0)
        for token, state in enumerate(states):
            cosine = cosine_similarity(state.float(), prototype, dim=0)
            scores[row, token] = (cosine.item() + 1) / 2
    return scores


def reweight(cosines, mask, group_ids, advantages):
    """Eq. 4-12 from the cosines on."""
    weights = compensate((cosines + 1) / 2, mask)
    psi = intra_trajectory_weights(weights, mask)
    phi = inter_trajectory_weights(weights, mask, group_ids)
    return reweight_advantages(advantages, psi, phi)


def bench_states(dtype: torch.dtype, device: str) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(ROWS, TOKENS, WIDTH, generator=generator).to(device, dtype)
    image_mask = torch.zeros(ROWS, TOKENS, dtype=torch.bool, device=device)
    image_end = 16 + IMAGE_TOKENS
    image_mask[:, 16:image_end] = True
    prototype = visual_prototype(states, image_mask)
    whole = torch.ones_like(image_mask)
    rounds = measure(
        {
            "read": states.sum,
            "prototype": lambda: visual_prototype(states, image_mask),
            "score": lambda: visual_focus_score(states, prototype),
            "both": lambda: score_states(states, image_mask),
            "both, as in a rollout": lambda: visual_focus_score(
                states[:, image_end:], visual_prototype(states, image_mask)
            ),
            "both, every token an image token": lambda: score_states(states, whole),
        },
        rounds=31,
        device=device,
    )
    loop = measure(
        {
            "vectorised": lambda: score_states(states, image_mask),
            "token by token": lambda: score_token_by_token(states, image_mask),
        },
        rounds=5,
        warm_up=1,
        device=device,
    )
    return {
        "milliseconds": {name: rounds.milliseconds(name) for name in rounds.seconds},
        "reads": {name: rounds.ratio(name, "read") for name in rounds.seconds},
        "reads_quartiles": {
            name: rounds.spread(name, "read") for name in rounds.seconds
        },
        "token_by_token_over_vectorised": loop.ratio("token by token", "vectorised"),
    }


def bench_reweighting(device: str) -> dict[str, object]:
    shapes = {"(64, 2048)": (64, 2048), "(128, 2048)": (128, 2048)}
    shapes["(64, 4096)"] = (64, 4096)
    rounds = measure(
        {name: reweighting_case(*shape, device) for name, shape in shapes.items()},
        rounds=31,
        device=device,
    )
    return {
        "milliseconds": {name: rounds.milliseconds(name) for name in shapes},
        "ratio_to_(64, 2048)": {
            name: rounds.ratio(name, "(64, 2048)") for name in shapes
        },
    }


def reweighting_case(rows: int, tokens: int, device: str):
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(rows, tokens, generator=generator) * 2 - 1
    lengths = torch.randint(tokens // 2, tokens + 1, (rows, 1), generator=generator)
    advantages = torch.randn(rows, generator=generator)
    arguments = (
        cosines.to(device),
        (torch.arange(tokens) < lengths).to(device),
        (torch.arange(rows) // GENERATIONS).to(device),
        advantages.to(device),
    )
    return lambda: reweight(*arguments)


def main() -> None:
    figures = {}
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        states = {
            str(dtype).removeprefix("torch."): bench_states(dtype, device)
            for dtype in (torch.float32, torch.bfloat16)
        }
        reweighting = bench_reweighting(device)
        figures[device] = {"scoring": states, "reweighting": reweighting}
        print_table(
            f"Eq. 3-4, states ({ROWS}, {TOKENS}, {WIDTH}) on {device}, {IMAGE_TOKENS} "
            f"image tokens a row; limit for both: {LIMIT:g} reads",
            ["", "float32 ms", "reads", "bfloat16 ms", "reads"],
            [
                [name]
                + [
                    states[dtype][kind][name]
                    for dtype in ("float32", "bfloat16")
                    for kind in ("milliseconds", "reads")
                ]
                for name in states["float32"]["reads"]
            ],
        )
        print_table(
            "One token at a time, over vectorised",
            ["float32", "bfloat16"],
            [[states[d]["token_by_token_over_vectorised"] for d in states]],
        )
        times, growth = reweighting.values()
        print_table(
            f"Eq. 4-12 on scores, on {device}",
            ["rows, tokens", "ms", "of the first"],
            [[name, times[name], growth[name]] for name in times],
        )
    write("scoring", figures)


if __name__ == "__main__":
    main()
