"""Tokenizer and processor of the small world, in Qwen2.5-VL's format."""

import warnings
from collections.abc import Sequence

from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoProcessor, PreTrainedTokenizerFast, Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
)
from transformers.processing_utils import ProcessorMixin

from vgpo.testbed.forms import known_form, resized, unknown_form
from vgpo.testbed.images import TILE
from vgpo.testbed.questions import vocabulary

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Qwen's names; ``<|endoftext|>`` pads and ``<|im_end|>`` ends a turn."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "<|im_start|>{{ message.role }}\n"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}"
    "{%- for part in message.content -%}"
    "{%- if part.type == 'image' or 'image' in part -%}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "<|im_end|>\n"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)
# Jinja's `-` eats the line breaks around a tag, and the format needs them.
CHAT_TEMPLATE = CHAT_TEMPLATE.replace("\n{%-", "{{ '\\n' }}{%-")


def build_tokenizer(words: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    r"""A byte-level tokenizer that has one token for every word of the small world.

    Any text can be encoded and comes back unchanged: what is no word of the small
    world is spelt in bytes. ``<think>`` and ``</think>`` are single tokens but not
    special ones, so they survive decoding, as in Qwen3.

    Args:
        words: Pieces of text with a token of their own; by default the
            :func:`~vgpo.testbed.questions.vocabulary` of the first world.

    Example:
        >>> tokenizer = build_tokenizer()
        >>> tokenizer.tokenize("<think> red = 5 .</think>")
        ['<think>', 'Ġred', 'Ġ=', 'Ġ5', 'Ġ.', '</think>']
        >>> tokenizer.decode(tokenizer.encode("naïve ☕"))
        'naïve ☕'
    """
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    for word in vocabulary() if words is None else words:
        pieces.append("".join(piece for piece, _ in to_bytes.pre_tokenize_str(word)))
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    core.add_tokens([AddedToken(t, special=False) for t in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=[
            t for t in SPECIAL_TOKENS if t not in ("<|endoftext|>", "<|im_end|>")
        ],
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


class TestbedProcessor(Qwen2_5_VLProcessor):
    """Qwen2.5-VL's processor without its video part, so that no torchvision is needed.

    Use it as any Hugging Face processor; ``from_pretrained`` and
    ``save_pretrained`` work, and so does ``AutoProcessor.from_pretrained`` once
    ``vgpo.testbed`` is imported. (Before, it finds only the tokenizer.)

    Example:
        >>> from vgpo.testbed import CHECKPOINT
        >>> type(AutoProcessor.from_pretrained(CHECKPOINT)).__name__
        'TestbedProcessor'
    """

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
        self.image_token = "<|image_pad|>"
        self.video_token = "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        # Qwen2_5_VLProcessor.__init__ hands on a video processor, which must exist.
        ProcessorMixin.__init__(
            self, image_processor, tokenizer, chat_template=chat_template
        )
        self._warns = False

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As every processor's; a loaded one warns of questions that the model beside
        it has never seen a form of. One just built belongs to no trained model."""
        processor = super().from_pretrained(*args, **kwargs)
        processor._warns = True
        return processor

    def apply_chat_template(self, conversation, *args, **kwargs):
        """As every processor's, with the warning of :meth:`from_pretrained`."""
        if self._warns:
            several = conversation and isinstance(conversation[0], list)
            for chat in conversation if several else [conversation]:
                self._warn_of_an_unknown_form(chat)
                self._warn_of_resized_tiles(chat)
        return super().apply_chat_template(conversation, *args, **kwargs)

    def _warn_of_an_unknown_form(self, chat: list[dict]) -> None:
        asked = [turn["content"] for turn in chat if turn.get("role") == "user"]
        if not asked:
            return
        content = asked[-1]
        if not isinstance(content, str):
            texts = [part for part in content if part.get("type") == "text"]
            content = "".join(str(part.get("text", "")) for part in texts)
        # The second world's tokenizer has words of its own.
        world = "look_away" if "Ġrecall" in self.tokenizer.get_vocab() else "misread"
        if not known_form(content, world):
            warnings.warn(unknown_form(content, world), stacklevel=3)

    def _warn_of_resized_tiles(self, chat: list[dict]) -> None:
        contents = [t["content"] for t in chat if isinstance(t.get("content"), list)]
        parts = [part for content in contents for part in content]
        pictures = [part["image"] for part in parts if "image" in part]
        size = self.image_processor.size
        least, most = size["shortest_edge"], size["longest_edge"]
        for picture in pictures:
            if not isinstance(picture, Image.Image):
                continue  # an address; it is not loaded here
            whole = not picture.width % TILE and not picture.height % TILE
            if whole and not least <= picture.width * picture.height <= most:
                warnings.warn(resized(least, most), stacklevel=3)
                return


class _SmallWorldConfig(Qwen2_5_VLConfig):
    """The key to register the processor under; no model has it.

    Qwen2.5-VL's own configuration keeps its own processor. A folder of the small
    world names its processor class, which is then found among those registered.
    """


AutoProcessor.register(_SmallWorldConfig, TestbedProcessor)


def build_processor(words: Sequence[str] | None = None) -> TestbedProcessor:
    """The processor of the small world: a 28-pixel tile becomes one image token.

    Args:
        words: As in :func:`build_tokenizer`.

    Example:
        >>> from PIL import Image
        >>> processor = build_processor()
        >>> text = "<|vision_start|><|image_pad|><|vision_end|>Total ?"
        >>> grid = Image.new("RGB", (84, 56))
        >>> batch = processor(text=text, images=grid, return_tensors="pt")
        >>> int((batch["input_ids"] == processor.image_token_id).sum())
        6
    """
    image_processor = Qwen2VLImageProcessorPil(
        min_pixels=TILE * TILE, max_pixels=TILE * TILE * 256
    )
    tokenizer = build_tokenizer(words)
    return TestbedProcessor(image_processor, tokenizer, chat_template=CHAT_TEMPLATE)
