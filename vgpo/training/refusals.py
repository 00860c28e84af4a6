"""What a trainer refuses before its first step, with the cure where there is one.

Each is a limit of TRL's, of an engine or of a processor that would end a run in the
middle, or would have a model trained on something else than it answers about. Where a
limit is a fault of TRL, the function names the test in
``tests/training/test_trainer_contract.py`` that shows it.
"""

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from jinja2 import TemplateError
from PIL import Image
from transformers import (
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from vgpo.models.handle import unwrap_model
from vgpo.models.inputs import eval_mode
from vgpo.training.workarounds import tokenized

# What processors say of a prompt they do not take. torch, of which transformers has it,
# needs jinja2 as well.
_CANNOT_PROCESS = (ValueError, TypeError, RuntimeError, TemplateError)


def rows_without_image(dataset: Dataset) -> list[int]:
    """Numbers of the rows that have no image; none is read or decoded.

    Example:
        >>> rows = {"prompt": ["a", "b"], "image": ["one.png", None]}
        >>> rows_without_image(Dataset.from_dict(rows))
        [1]
    """
    return [row for row, lacks in enumerate(_lacks_image(dataset)) if lacks]


def any_image(dataset: Dataset) -> bool:
    """Whether a row has an image; reads on to the first that has one.

    Example:
        >>> any_image(Dataset.from_dict({"prompt": ["a"]}))
        False
    """
    return not all(_lacks_image(dataset))


def _lacks_image(dataset: Dataset) -> Iterator[bool]:
    """Row by row."""
    for name in ("images", "image"):
        if name in dataset.column_names:
            break
    else:
        yield from (True for _ in range(len(dataset)))
        return
    column = dataset.select_columns([name]).with_format("arrow")
    for start in range(0, len(dataset), 1000):
        values = column[start : start + 1000].column(0)
        # A list of pictures, or one in any form; a form of the library's own wraps it.
        kind = getattr(values.type, "storage_type", values.type)
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        if any(is_list(kind) for is_list in lists):
            lengths = pc.fill_null(pc.list_value_length(values), 0)
            yield from pc.equal(lengths, 0).to_pylist()
        else:
            yield from values.is_null().to_pylist()


def refuse_rows_without_image(dataset: Dataset, engine: str) -> None:
    """Refuses data that would end in a hang or a mismatch between processes.

    Where an engine gathers or reduces a vision tower's weights on all processes, one
    whose micro-batch has no image leaves the others waiting, or answers with the
    wrong tensor.

    Raises:
        ValueError: Some rows have an image and some have none.
    """
    without = rows_without_image(dataset)
    if not without or len(without) == len(dataset):
        return
    raise ValueError(
        f"train_dataset: {_no_image(without, dataset)}, which "
        f"{engine} cannot mix with rows that have one: all processes "
        "must run the vision tower together. Leave these rows out, train without the "
        "engine, or, under ZeRO-1 and 2, train adapters of the language model only"
    )


def refuse_rows_that_are_none(dataset: Dataset) -> None:
    """Refuses what has nothing to ask, before a model is prepared for it.

    Raises:
        ValueError: The data set is empty, or has no prompts.
    """
    if not len(dataset):
        raise ValueError("train_dataset: it is empty")
    # A row, and not the columns: rows of load_rows are made when they are asked for.
    row = dataset[0]
    if "prompt" not in row:
        raise ValueError(
            "train_dataset: rows need a conversation in 'prompt', they have "
            f"{sorted(row)}; vgpo.data.to_prompts makes one of a question's columns"
        )


def refuse_pictures_for_a_tokenizer(tokenizer: object, dataset: Dataset) -> None:
    """Refuses a tokenizer where there are pictures, which it would pass over.

    Raises:
        ValueError: A row has an image.
    """
    if any_image(dataset):
        raise ValueError(
            f"processing_class: {type(tokenizer).__name__} is a tokenizer, and cannot "
            "read the pictures of train_dataset; pass the model's processor"
        )


def refuse_what_is_left_out(processor: ProcessorMixin, known: Collection[str]) -> None:
    """Refuses a processor whose images TRL does not hand on whole.

    ``test_plain_trl_hands_on_these_fields_of_images_and_no_others``.

    Args:
        processor: The model's own.
        known: Fields that TRL's passes take.

    Raises:
        ValueError: It makes a field of an image that TRL leaves out, or TRL cannot tell
            its patches from tiles.
    """
    name = type(processor).__name__
    image = Image.new("RGB", (64, 64), "white")
    try:
        with _unwarned():
            asked = [_question({"type": "image", "image": image})]
            fields = tokenized(processor, asked)[2]
    except _CANNOT_PROCESS:
        return  # it wants other prompts; those of the data are seen soon enough
    left_out = sorted(set(fields) - set(known) - {"batch_num_images"})
    if left_out:
        raise ValueError(
            f"processing_class: {name} makes {', '.join(left_out)} of images, which "
            "TRL does not hand on to the model: it would be trained on other images "
            "than it answers about. This family of models can be scored, not trained"
        )
    if "image_grid_thw" in fields and fields["pixel_values"].ndim == 4:
        raise ValueError(
            f"processing_class: {name} makes patches of images that TRL takes for "
            "tiles (pixel_values of 4 dimensions beside image_grid_thw). This family "
            "of models can be scored, not trained"
        )


def refuse_questions_without_image(processor: ProcessorMixin, dataset: Dataset) -> None:
    """Refuses rows without image where a processor takes none, as PaliGemma's.

    A round may have no other, and would end the run.

    Raises:
        ValueError: Some rows have no image, and the processor takes no such prompt.
    """
    try:
        with _unwarned():
            tokenized(processor, [_question()])
    except _CANNOT_PROCESS as error:
        without = rows_without_image(dataset)
        if without:
            raise ValueError(
                f"train_dataset: {_no_image(without, dataset)}, and "
                f"{type(processor).__name__} takes no prompt without one ({error}). "
                "Leave these rows out"
            ) from error


def refuse_other_aggregations(name: str) -> None:
    """Refuses to combine rewards over a batch of which groups are replaced.

    Raises:
        ValueError: With dynamic sampling, ``multi_objective_aggregation`` is another
            than ``"sum_then_normalize"``.
    """
    if name != "sum_then_normalize":
        raise ValueError(
            "multi_objective_aggregation must be 'sum_then_normalize' with "
            "dynamic_sampling: TRL normalises the others over a whole batch, of "
            "which groups are replaced later"
        )


def refuse_unknown_reward(name: str, known: Sequence[str]) -> None:
    """Refuses a measure of accuracy that there is not.

    Raises:
        ValueError: No reward function is called so.
    """
    if name not in known:
        raise ValueError(
            f"dynamic_sampling_reward must be one of {known}, got {name!r}"
        )


def refuse_uncounted_experts(text_config: PreTrainedConfig) -> None:
    """Refuses TRL's loss on a router whose experts TRL cannot count.

    ``test_plain_trl_counts_experts_by_one_name``.

    Args:
        text_config: Of a mixture whose router's loss is asked for.

    Raises:
        ValueError: It counts its experts under another name than TRL knows.
    """
    if getattr(text_config, "num_experts", None) is None:
        raise ValueError(
            "router_aux_loss_coef: TRL needs num_experts, and the configuration of "
            f"{text_config.model_type} counts its experts under another name; set "
            "router_aux_loss_coef to 0"
        )


def refuse_other_log_probabilities(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, temperature: float
) -> None:
    """Refuses a model that TRL would score otherwise than it generates.

    TRL makes logits of hidden states itself, by what the configuration says of scales
    and caps. A model that has the scale in its configuration and not in its forward
    pass, as Aya Vision in transformers 5, would be trained on another policy.
    ``test_plain_trl_scales_logits_that_the_model_does_not``.

    Args:
        model: After TRL has prepared it.
        tokenizer: Its own.
        temperature: Of sampling, which TRL divides logits by.

    Raises:
        ValueError: The log-probabilities of a few tokens differ by more than rounding.
    """
    if (
        getattr(unwrap_model(model), "is_loaded_in_4bit", False)
        and model.device.type == "cpu"
    ):
        # A pass without gradient packs such weights for answering, for good.
        return
    ids = tokenizer("1 2 3 4", return_tensors="pt")["input_ids"].to(model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with eval_mode(model), torch.no_grad():
        try:
            logits = model(**inputs, use_cache=False).logits[:, :-1].float()
            logits = logits / temperature
        except _CANNOT_PROCESS:
            return  # a model that takes no text alone
        scored = model(**inputs, labels=ids, fused_lm_head=True).log_probs.float()
    own = logits.log_softmax(dim=-1)
    # Layers may be spread over several devices.
    own = own.gather(2, ids[:, 1:, None].to(own.device)).squeeze(2)
    difference = float((scored[:, -own.shape[1] :].to(own.device) - own).abs().max())
    # Logits in bfloat16 are exact to half a percent.
    if difference > 0.05 + 0.02 * float(logits.abs().max()):
        raise ValueError(
            "model: TRL gives its tokens other log-probabilities than its own forward "
            f"pass, by up to {difference:.2g}. TRL scales logits by what the text "
            "configuration says (logit_scale, logits_scaling, final_logit_softcapping "
            "and the like), and this model does not: set it to 1.0, or None, there, to "
            "train what the model generates by"
        )


@contextmanager
def _unwarned() -> Iterator[None]:
    """For questions of our own: what a processor says of them is no user's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _question(*parts: dict) -> list[dict]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}]


def _no_image(rows: list[int], dataset: Dataset) -> str:
    some = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return f"{len(rows)} of its {len(dataset)} rows have no image (rows {some})"
