"""What the mathematics costs: scoring states (Eq. 3-4), and Eq. 4-12 on scores.

    python -m benchmarks scoring

- Prototype and focus score of four rows of a 7B model, in float32 and bfloat16,
  against Eq. 3-4 as one would first write them, with ``cosine_similarity`` (at most
  0.5 of its time), and against a loop that takes one token's cosine at a time and
  reads it back, which is how the released code is described to work (at most 0.2).
  All are timed in turn in one run, so that the ratios do not depend on the machine as
  the milliseconds do.
- The share of a whole training step that scoring and re-weighting take: at most 0.01.
  It is larger here than in use, because the model is tiny.
- Eq. 4-12 from cosines to advantages of 64 completions of 2,048 tokens, and how the
  time grows when rows or tokens are doubled: about 2 if nothing is quadratic.
"""

import tempfile

import torch
from torch.nn.functional import cosine_similarity

from benchmarks import bench_trainer
from benchmarks.harness import measure, print_table, write
from vgpo import (
    compensate,
    inter_trajectory_weights,
    intra_trajectory_weights,
    reweight_advantages,
    visual_focus_score,
    visual_prototype,
)
from vgpo.models.capture import observe_last_hidden_state
from vgpo.training.trainer import VGPOTrainer

ROWS, TOKENS, WIDTH, IMAGE_TOKENS = 4, 1024, 3584, 256
GENERATIONS = 8
LIMITS = {"cosine_similarity": 0.5, "token by token": 0.2}
"""Most that scoring may take of the time of the other ways."""

SHARE_LIMIT = 0.01
"""Most that scoring and re-weighting may take of a training step."""


def score_states(hidden_states, image_mask):
    return visual_focus_score(
        hidden_states, visual_prototype(hidden_states, image_mask)
    )


def score_plainly(hidden_states, image_mask):
    """Eq. 3-4 as one would first write them: three float32 copies of all states."""
    states, weights = hidden_states.float(), image_mask.float()
    prototype = (states * weights[..., None]).sum(dim=1) / weights.sum(1, keepdim=True)
    return (cosine_similarity(states, prototype[:, None], dim=-1) + 1) / 2


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
    image_mask[:, 16 : 16 + IMAGE_TOKENS] = True
    ways = {
        "this package": score_states,
        "cosine_similarity": score_plainly,
        "token by token": score_token_by_token,
    }
    rounds = measure(
        {
            name: lambda score=score: score(states, image_mask)
            for name, score in ways.items()
        },
        rounds=15,
        device=device,
    )
    return {
        "milliseconds": {name: rounds.milliseconds(name) for name in ways},
        "ratio": {name: rounds.ratio("this package", name) for name in LIMITS},
        "ratio_quartiles": {
            name: rounds.spread("this package", name) for name in LIMITS
        },
        "limits": LIMITS,
    }


def bench_share(device: str) -> dict[str, object]:
    """Scoring and re-weighting of one round of rollouts, over the round's step."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = bench_trainer.build(VGPOTrainer, device, folder)
        shapes = []
        with observe_last_hidden_state(
            trainer.model, lambda ids, mask, states: shapes.append(states.shape)
        ):
            bench_trainer.step(trainer)
        rows, length, width = shapes[-1]
        tokens = bench_trainer.LENGTH[device]
        states = torch.randn(rows, length, width, device=device)
        image_mask = torch.zeros(rows, length, dtype=torch.bool, device=device)
        image_mask[:, 3:12] = True  # a picture of 3 x 3 tiles
        others = (
            torch.ones(rows, tokens, dtype=torch.bool, device=device),
            torch.arange(rows, device=device) // GENERATIONS,
            torch.randn(rows, device=device),
        )
        rounds = measure(
            {
                "step": lambda: bench_trainer.step(trainer),
                "scoring": lambda: reweight(
                    2 * score_states(states, image_mask)[:, -tokens:] - 1, *others
                ),
            },
            rounds=9,
            warm_up=1,
            device=device,
        )
    return {
        "states": [rows, length, width],
        "milliseconds": {name: rounds.milliseconds(name) for name in rounds.seconds},
        "share": rounds.ratio("scoring", "step"),
        "share_quartiles": rounds.spread("scoring", "step"),
        "limit": SHARE_LIMIT,
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
    figures, over = {}, []
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        states = {
            str(dtype).removeprefix("torch."): bench_states(dtype, device)
            for dtype in (torch.float32, torch.bfloat16)
        }
        share = bench_share(device)
        reweighting = bench_reweighting(device)
        figures[device] = {
            "scoring": states,
            "share_of_a_step": share,
            "reweighting": reweighting,
        }
        print_table(
            f"Eq. 3-4, states ({ROWS}, {TOKENS}, {WIDTH}) on {device}, {IMAGE_TOKENS} "
            "image tokens a row; ratio: this package over that way",
            ["", "float32 ms", "ratio", "bfloat16 ms", "ratio", "limit"],
            [
                [name]
                + [
                    cell
                    for found in states.values()
                    for cell in (
                        found["milliseconds"][name], found["ratio"].get(name, "")
                    )
                ]
                + [LIMITS.get(name, "")]
                for name in states["float32"]["milliseconds"]
            ],
        )  # fmt: skip
        print_table(
            f"Scoring and re-weighting in a step, on {device}",
            ["step, ms", "scoring, ms", "share", "limit"],
            [[*share["milliseconds"].values(), share["share"], SHARE_LIMIT]],
        )
        times, growth = reweighting.values()
        print_table(
            f"Eq. 4-12 on scores, on {device}",
            ["rows, tokens", "ms", "of the first"],
            [[name, times[name], growth[name]] for name in times],
        )
        over += [
            f"{device}, {dtype}, {name}: {found['ratio'][name]:.2f} over {limit}"
            for dtype, found in states.items()
            for name, limit in LIMITS.items()
            if found["ratio"][name] > limit
        ]
        if share["share"] > SHARE_LIMIT:
            over.append(f"{device}, share: {share['share']:.3f} over {SHARE_LIMIT}")
    write("scoring", figures)
    if over:
        raise SystemExit(f"scoring: over the limit in {'; '.join(over)}")


if __name__ == "__main__":
    main()
