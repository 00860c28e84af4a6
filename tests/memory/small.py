"""Small models in the shape of Qwen2.5-VL, and what a micro-batch of them takes."""

from contextlib import nullcontext

import torch
from peft import get_peft_model
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig
from trl.trainer.utils import add_fused_lm_head

from vgpo.models.adapters import lora_config
from vgpo.studies.quantization import random_batch, random_four_bit

ROWS, IMAGE, WORDS, RESPONSE = 2, (4, 4), 8, 120


def small_config(hidden=256, layers=3, vocabulary=1024, tied=False) -> Qwen2_5_VLConfig:
    head = hidden // 8
    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": hidden,
            "intermediate_size": hidden * 11 // 4,
            "num_hidden_layers": layers,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "vocab_size": vocabulary,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [head // 8, head * 3 // 16, head * 3 // 16],
            },
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "tie_word_embeddings": tied,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 160,
            "intermediate_size": 432,
            "num_heads": 4,
            "out_hidden_size": hidden,
            "fullatt_block_indexes": [1],
        },
        image_token_id=vocabulary - 4,
        video_token_id=vocabulary - 3,
        vision_start_token_id=vocabulary - 2,
        vision_end_token_id=vocabulary - 1,
        tie_word_embeddings=tied,
    )


def small_model(config, dtype="float32", four_bit=False, adapters=False, again=True):
    """As the trainer has it: TRL's head, adapters, checkpointing."""
    if four_bit:
        model = random_four_bit(config, "cpu")
    else:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForImageTextToText.from_config(
                config, dtype=getattr(torch, dtype)
            )
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if adapters:
        model = get_peft_model(model, lora_config(model, r=8))
    if again:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if adapters:
            model.enable_input_require_grads()
    return model.train()


def micro_batch(model, config, products, response=RESPONSE):
    """A function: forward pass, log-probabilities, backward pass; and its rows."""
    rows = random_batch(config, rows=ROWS, image_tokens=IMAGE, completion=response)
    rows["attention_mask"][0, :3] = 0  # rows of a batch are padded to the longest
    cast = torch.autocast("cpu", torch.bfloat16) if products else nullcontext()

    def run():
        with cast:
            scored = model(**rows, fused_lm_head=True)
        scored.log_probs.sum().backward()

    return run, rows
