"""Training runs of a second or two: an untrained tiny model, eight tokens a rollout.

Rewards depend on a completion's first token only, so they vary from rollout to
rollout and can be recomputed from any row's ids. :class:`Scripted` writes rollouts
of its own, a pure function of round and row, in place of sampling them.
"""

import gc
import random
from functools import cache

import reference
import torch
from datasets import Dataset, Features, List
from datasets import Image as ImageFeature
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid

from vgpo import VGPOConfig, VGPOTrainer
from vgpo.testbed import World, build_processor, build_tiny, make_dataset

# The trainer collects garbage at the end of each run; what was imported never is any.
gc.freeze()

LENGTH = 8
GROUP = 4


@cache
def processor():
    return build_processor()


def model(layers=1):
    """The tiny model, its weights enlarged so that tokens differ in their states."""
    tiny = build_tiny(processor(), hidden_size=64, layers=layers, vision_layers=1)
    with torch.no_grad():
        for parameter in tiny.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return tiny


@cache
def dataset(*families, size=16):
    """Questions on small pictures; those of ``"text"`` have none."""
    world = World(grids=((1, 2), (2, 2)), families=families or ("sum", "count"))
    return make_dataset(size, world).select_columns(["prompt", "image", "answer"])


def rows_of(*families):
    """One question per entry."""
    rows = [dataset(family)[i] for i, family in enumerate(families)]
    return Dataset.from_list(rows, features=dataset("sum").features)


def two_images_each():
    def prompt(text):
        image = {"type": "image", "text": ""}
        content = [image, image, {"type": "text", "text": text}]
        return [{"role": "user", "content": content}]

    pictures = [row["image"] for row in dataset()]
    rows = [
        {"prompt": prompt(f"red + {i} ?"), "images": pictures[2 * i : 2 * i + 2]}
        for i in range(8)
    ]
    prompt_type = dataset().features["prompt"]
    return Dataset.from_list(
        rows, features=Features({"prompt": prompt_type, "images": List(ImageFeature())})
    )


def reward(completion_ids, **columns):
    return [reward_of(ids) for ids in completion_ids]


def reward_of(ids):
    return (31 * ids[0] % 11) / 10


def config(folder, config_class=VGPOConfig, **fields):
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 2 * GROUP,
        "num_generations": GROUP,
        "max_completion_length": LENGTH,
        "max_steps": 3,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 3,
    }
    return config_class(**(settings | fields))


def make_trainer(
    folder,
    trainer_class=VGPOTrainer,
    *,
    model=None,
    train_dataset=None,
    eval_dataset=None,
    reward_funcs=reward,
    peft_config=None,
    callbacks=None,
    **fields,
):
    """A trainer of the tiny model; ``fields`` are those of its configuration."""
    ours = issubclass(trainer_class, VGPOTrainer)
    return trainer_class(
        model=globals()["model"]() if model is None else model,
        args=config(folder, VGPOConfig if ours else GRPOConfig, **fields),
        reward_funcs=reward_funcs,
        train_dataset=dataset() if train_dataset is None else train_dataset,
        eval_dataset=eval_dataset,
        processing_class=processor(),
        peft_config=peft_config,
        callbacks=callbacks,
    )


def train(folder, trainer_class=VGPOTrainer, *, resume=None, **options):
    trainer = make_trainer(folder, trainer_class, **options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def parameters(trainer: GRPOTrainer) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach().clone()
        for name, parameter in trainer.model.named_parameters()
    }


def different(ours, theirs):
    """Names of the parameters that are not bit-identical."""
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not torch.equal(ours[name], theirs[name])]


# -- rollouts that are known beforehand, and what the loss gets to see ------------


def script(call: int, row: int) -> list[int]:
    """Completion of a row in a round: 2 to 8 tokens, cut off if it has 8."""
    draw = random.Random(1000 * call + row)
    length = draw.randint(2, LENGTH)
    ids = [draw.randrange(10, 200) for _ in range(length)]
    if length < LENGTH:
        ids[-1] = processor().tokenizer.eos_token_id
    return ids


class Scripted(VGPOTrainer):
    """Rollouts from :func:`script`; keeps every micro-batch that reaches the loss."""

    def __init__(self, *others, **named):
        super().__init__(*others, **named)
        self.calls = 0
        self.seen: list[dict] = []

    def _generate_single_turn(self, prompt_ids, *others, **named):
        first = self.accelerator.process_index * len(prompt_ids)
        if self.model.training:
            self.calls += 1
        rows = range(first, first + len(prompt_ids))
        return [script(self.calls, row) for row in rows], None

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        # Afterwards, since a whole generation may be shaped in the loss.
        if self.model.training:
            self.seen.append(
                {
                    key: value.clone() if isinstance(value, torch.Tensor) else value
                    for key, value in inputs.items()
                }
            )
        return loss


def split(micro_batch) -> list[dict]:
    """Rows of a micro-batch: real prompt, completion, pixels, advantages."""
    micro_batch = split_pixel_values_by_grid(micro_batch)
    rows = []
    for i, completion in enumerate(micro_batch["completion_ids"]):
        real = micro_batch["prompt_mask"][i].bool()
        row = {
            "prompt": micro_batch["prompt_ids"][i][real],
            "completion": completion,
            "mask": micro_batch["completion_mask"][i],
            "advantages": micro_batch["advantages"][i],
        }
        if "pixel_values" in micro_batch and micro_batch["num_images"][i]:
            row["pixel_values"] = micro_batch["pixel_values"][i]
            row["image_grid_thw"] = micro_batch["image_grid_thw"][i]
        rows.append(row)
    return rows


def last_states(model, row) -> torch.Tensor:
    """Last hidden states of one row alone, without padding in its prompt."""
    ids = torch.cat([row["prompt"], row["completion"]])[None]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.cat([torch.ones_like(row["prompt"]), row["mask"]])[
            None
        ],
        "mm_token_type_ids": (ids == processor().image_token_id).int(),
    }
    pixels = {k: row[k] for k in ("pixel_values", "image_grid_thw") if k in row}
    if pixels:
        inputs |= pixels
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    return output.hidden_states[-1][0]


def group_ids(rows) -> list[int]:
    """The same number for rows with the same prompt and pictures."""
    keys = [
        (row["prompt"].tolist(), row["pixel_values"].tolist())
        if "pixel_values" in row
        else row["prompt"].tolist()
        for row in rows
    ]
    return [keys.index(key) for key in keys]


def expect(model, rows, args) -> dict[str, list]:
    """Everything VGPO computes for the rows of one generation, by the reference.

    Rows are of one length T.
    """
    shift = 1 if args.alignment == "prediction" else 0
    focus, mask = [], []
    for row in rows:
        states = last_states(model, row)
        start = len(row["prompt"]) - shift
        scored = states[start : start + len(row["completion"])]
        is_image = row["prompt"] == processor().image_token_id
        vector = reference.prototype(
            [states[: len(is_image)].tolist()], [is_image.tolist()]
        )
        focus += reference.focus_score([scored.tolist()], vector)
        mask.append(row["mask"].tolist())
    focus = [
        [value * real for value, real in zip(*pair, strict=True)]
        for pair in zip(focus, mask, strict=True)
    ]
    tail, top = args.visual_gate_tail_ratio, args.visual_gate_top_ratio
    gates = reference.gate(focus, mask, str(tail), str(top))
    weights = reference.compensate(
        focus,
        mask,
        args.visual_compensation_strength,
        gates,
        reference.schedule(mask, args.compensation_schedule),
    )
    groups = group_ids(rows)
    psi = [[0.0] * len(row) for row in mask]
    phi = [0.0] * len(mask)
    if args.intra_trajectory:
        psi = reference.intra(weights, mask)
    if args.inter_trajectory:
        phi = reference.inter(weights, mask, groups, args.accumulation)
    rewards = torch.tensor([reward_of(row["completion"].tolist()) for row in rows])
    base = []
    for group, value in zip(groups, rewards, strict=True):
        peers = rewards[[g == group for g in groups]]
        assert len(peers) == GROUP, "two groups have the same prompt"
        base.append(float((value - peers.mean()) / (peers.std() + 1e-4)))
    return {
        "groups": groups,
        "focus": focus,
        "mask": mask,
        "gates": gates,
        "psi": psi,
        "phi": phi,
        "base": base,
        "advantages": reference.advantages(base, psi, phi),
    }
