"""The tiny Qwen2.5-VL of the small world, and the checkpoint that ships with it."""

from pathlib import Path

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from vgpo.seeds import seeded
from vgpo.testbed.look_away import WORLDS
from vgpo.testbed.processor import TestbedProcessor

CHECKPOINT = Path(__file__).parent / "checkpoint"
"""Folder of the shipped checkpoint of the first world."""

CHECKPOINTS = {
    "misread": CHECKPOINT,
    "look_away": CHECKPOINT.with_name("checkpoint_look_away"),
    "look_away_wordy": CHECKPOINT.with_name("checkpoint_look_away_wordy"),
}
"""Folder of each world's shipped checkpoint; ``look_away_wordy`` answers the questions
of ``look_away`` with more small talk."""

REMAKE = "python -m vgpo.testbed.cold_start"

_REQUIRED = ("config.json", "model.safetensors", "tokenizer.json")


def tiny_config(
    processor: TestbedProcessor,
    hidden_size: int = 128,
    layers: int = 4,
    vision_layers: int = 2,
) -> Qwen2_5_VLConfig:
    """Configuration of a Qwen2.5-VL of 1.5 M parameters: the real code, in small.

    Args:
        processor: Gives the vocabulary and the ids of the special tokens.
        hidden_size: Width of both towers; a multiple of 64, so that 4-bit
            quantisation can cut its blocks.
        layers: Layers of the language model.
        vision_layers: Layers of the vision tower, the last with full attention.

    Raises:
        ValueError: ``hidden_size`` is not a positive multiple of 64.
    """
    if hidden_size < 64 or hidden_size % 64:
        raise ValueError(
            f"hidden_size must be a positive multiple of 64, got {hidden_size}"
        )
    ids = processor.tokenizer.convert_tokens_to_ids
    heads = hidden_size // 32
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer),
            "hidden_size": hidden_size,
            "intermediate_size": 3 * hidden_size,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [4, 6, 6],
            },
            "pad_token_id": ids("<|endoftext|>"),
            "bos_token_id": ids("<|endoftext|>"),
            "eos_token_id": ids("<|im_end|>"),
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": hidden_size,
            "intermediate_size": 2 * hidden_size,
            "num_heads": heads,
            "out_hidden_size": hidden_size,
            "fullatt_block_indexes": [vision_layers - 1],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def build_tiny(
    processor: TestbedProcessor, seed: int = 0, **sizes: int
) -> Qwen2_5_VLForConditionalGeneration:
    """An untrained tiny model, its weights drawn from ``seed``.

    Args:
        processor: See :func:`tiny_config`.
        seed: Seed of the weights; the global generator is left as it was.
        **sizes: Passed to :func:`tiny_config`.
    """
    with seeded(seed):
        model = Qwen2_5_VLForConditionalGeneration(tiny_config(processor, **sizes))
    text = model.config.get_text_config()
    model.generation_config.eos_token_id = text.eos_token_id
    model.generation_config.pad_token_id = text.pad_token_id
    return model


def load_tiny(
    folder: str | Path = CHECKPOINT,
) -> tuple[Qwen2_5_VLForConditionalGeneration, TestbedProcessor]:
    """Loads the tiny model and its processor, ready to generate, without a network.

    Args:
        folder: A world of ``CHECKPOINTS``, or a checkpoint folder; by default that of
            the first world in the package.

    Returns:
        ``(model, processor)``: the model in fp32 and evaluation mode.

    Raises:
        FileNotFoundError: a file of the checkpoint is missing; says which and how
            to make it.
        ValueError: a file of the checkpoint cannot be read; says the same.

    Example:
        >>> model, processor = load_tiny()
        >>> model.config.model_type
        'qwen2_5_vl'
    """
    folder = CHECKPOINTS.get(str(folder), Path(folder))
    world = next((w for w, shipped in CHECKPOINTS.items() if shipped == folder), None)
    if world is None and str(folder) in WORLDS and not folder.is_dir():
        raise FileNotFoundError(
            f"folder: no checkpoint of {folder} is shipped, it is too large; "
            f"`{REMAKE} --world {folder} --output FOLDER` makes one, for which a GPU "
            "takes minutes; then give that folder"
        )
    if world is None and not folder.is_dir():
        raise FileNotFoundError(
            f"folder: there is no {str(folder)!r}; give one of "
            f"{', '.join(CHECKPOINTS)}, or the folder of a checkpoint, which "
            f"`{REMAKE} --output {folder}` makes"
        )
    remake = REMAKE if world is None else f"{REMAKE} --world {world}"
    for name in _REQUIRED:
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"checkpoint file {folder / name} is missing; reinstall the package, "
                f"or remake the checkpoint with `{remake} --output {folder}`"
            )
    try:
        processor = TestbedProcessor.from_pretrained(folder, local_files_only=True)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:
        # The libraries raise half a dozen unrelated types for a damaged file.
        raise ValueError(
            f"the checkpoint in {folder} cannot be read ({error}); reinstall the "
            f"package, or remake it with `{remake} --output {folder}`"
        ) from error
    return model.eval(), processor
