"""A processor for each tiny family, of the family's own class, made without a network.

Image processors are those on Pillow, which need no torchvision. Classes whose
constructor asks for a video processor are subclassed with one that does not.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import SimpleNamespace

import every_family
import transformers
from every_family import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, config_of
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.processing_utils import ProcessorMixin

_TEMPLATE = (
    "{%- for m in messages -%}<|im_start|>{{ m.role }}{{ '\n' }}"
    "{%- if m.content is string -%}{{ m.content }}{%- else -%}"
    "{%- for p in m.content -%}{%- if p.type == 'image' -%}IMAGE"
    "{%- elif p.type == 'text' -%}{{ p.text }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "<|im_end|>{{ '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\n' }}{%- endif -%}"
)


def tokenizer(image: str, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer whose chat template writes ``image`` for an image.

    Args:
        image: Text in the place of an image.
        **named: Special tokens, under the names that the tokenizer gives them.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *named.values()]
    core.add_special_tokens(
        [AddedToken(t, special=True) for t in dict.fromkeys(special)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=_TEMPLATE.replace("IMAGE", image),
        extra_special_tokens=named,
    )


def without_video(cls: type, image_processor, tokenizer, **attributes):
    """A processor of ``cls`` that has no video processor.

    Args:
        **attributes: What the constructor of ``cls`` would have set. A name that ends
            in ``_token`` sets its id too.
    """
    for name, value in list(attributes.items()):
        if name.endswith("_token"):
            attributes[f"{name}_id"] = tokenizer.convert_tokens_to_ids(value)

    class WithoutVideo(cls):
        def __init__(self, image_processor=None, tokenizer=None, chat_template=None):
            for name, value in attributes.items():
                setattr(self, name, value)
            ProcessorMixin.__init__(
                self, image_processor, tokenizer, chat_template=chat_template
            )

    WithoutVideo.__name__ = cls.__name__
    return WithoutVideo(image_processor, tokenizer, tokenizer.chat_template)


def _pil(module: str, name: str) -> type:
    file = f"transformers.models.{module}.image_processing_pil_{module}"
    return getattr(import_module(file), name)


@dataclass(frozen=True)
class Entry:
    """How a family's processor is made, and the names of its tokens."""

    make: Callable
    image: str
    """The token that holds an image feature's place."""
    ids: dict[str, str]
    """Tokens that the configuration names, by the name of the setting."""


ENTRIES: dict[str, Entry] = {}


def _entry(*names: str, image: str, ids: dict[str, str] | None = None):
    def register(make):
        for name in names:
            ENTRIES[name] = Entry(make, image, ids or {})
        return make

    return register


_QWEN = {
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def _qwen_tokens():
    return tokenizer(
        "<|vision_start|><|image_pad|><|vision_end|>",
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
    )


_QWEN_ATTRIBUTES = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}


def _qwen_images(**settings):
    side = 14 * 2
    cls = _pil("qwen2_vl", "Qwen2VLImageProcessorPil")
    return cls(
        min_pixels=(2 * side) ** 2,
        max_pixels=64 * side**2,
        patch_size=14,
        **settings,
    )


@_entry("qwen2_vl", image="<|image_pad|>", ids=_QWEN)
def _():
    cls = transformers.Qwen2VLProcessor
    return without_video(cls, _qwen_images(), _qwen_tokens(), **_QWEN_ATTRIBUTES)


@_entry("qwen2_5_vl", image="<|image_pad|>", ids=_QWEN)
def _():
    cls = transformers.Qwen2_5_VLProcessor
    return without_video(cls, _qwen_images(), _qwen_tokens(), **_QWEN_ATTRIBUTES)


@_entry(
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "qwen3_5_moe",
    image="<|image_pad|>",
    ids=_QWEN,
)
def _():
    cls = transformers.Qwen3VLProcessor
    return without_video(cls, _qwen_images(), _qwen_tokens(), **_QWEN_ATTRIBUTES)


@_entry(
    "glm4v",
    "glm4v_moe",
    "glm46v",
    image="<|image|>",
    ids={
        "video_token_id": "<|video|>",
        "image_start_token_id": "<|begin_of_image|>",
        "image_end_token_id": "<|end_of_image|>",
        "video_start_token_id": "<|begin_of_video|>",
        "video_end_token_id": "<|end_of_video|>",
    },
)
def _():
    names = {
        "image_token": "<|image|>",
        "video_token": "<|video|>",
        "image_start_token": "<|begin_of_image|>",
        "image_end_token": "<|end_of_image|>",
        "video_start_token": "<|begin_of_video|>",
        "video_end_token": "<|end_of_video|>",
    }
    tok = tokenizer("<|begin_of_image|><|image|><|end_of_image|>", **names)
    ip = _pil("glm4v", "Glm4vImageProcessorPil")(
        size={"shortest_edge": 2 * 56**2, "longest_edge": 2 * 224**2},
        patch_size=14,
    )
    start, end = tok.convert_tokens_to_ids(["<|begin_of_video|>", "<|end_of_video|>"])
    own = {"video_start_id": start, "video_end_id": end}
    return without_video(transformers.Glm4vProcessor, ip, tok, **names, **own)


@_entry(
    "gemma3",
    image="<image_soft_token>",
    ids={
        "boi_token_index": "<start_of_image>",
        "eoi_token_index": "<end_of_image>",
    },
)
def _():
    tok = tokenizer(
        "<start_of_image>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )
    ip = _pil("gemma3", "Gemma3ImageProcessorPil")(size={"height": 56, "width": 56})
    return transformers.Gemma3Processor(
        ip, tok, chat_template=tok.chat_template, image_seq_length=4
    )


def _idefics_tokens():
    return tokenizer(
        "<image>",
        image_boundary_token="<fake_token_around_image>",
        image_token="<image>",
        end_of_utterance_token="<end_of_utterance>",
        global_image_token="<global-img>",
    )


_IDEFICS_SIZES = {
    "size": {"longest_edge": 112},
    "max_image_size": {"longest_edge": 56},
}


@_entry("idefics3", image="<image>")
def _():
    tok = _idefics_tokens()
    ip = _pil("idefics3", "Idefics3ImageProcessorPil")(**_IDEFICS_SIZES)
    return transformers.Idefics3Processor(
        ip, tok, image_seq_len=4, chat_template=tok.chat_template
    )


@_entry("smolvlm", image="<image>")
def _():
    tok = _idefics_tokens()
    ip = _pil("smolvlm", "SmolVLMImageProcessorPil")(**_IDEFICS_SIZES)
    return without_video(
        transformers.SmolVLMProcessor,
        ip,
        tok,
        fake_image_token="<fake_token_around_image>",
        image_token="<image>",
        end_of_utterance_token="<end_of_utterance>",
        global_image_token="<global-img>",
        image_seq_len=4,
        video_token="<video>",
        # Asked for its settings also where there is no video.
        video_processor=SimpleNamespace(num_frames=4, fps=1),
    )


@_entry("idefics2", image="<image>")
def _():
    tok = _idefics_tokens()
    ip = _pil("idefics2", "Idefics2ImageProcessorPil")(
        size={"shortest_edge": 28, "longest_edge": 56}, do_image_splitting=False
    )
    return transformers.Idefics2Processor(
        ip, tok, image_seq_len=4, chat_template=tok.chat_template
    )


def _llava_tokens():
    return tokenizer("<image>", image_token="<image>", video_token="<video>")


@_entry("llava", "vipllava", image="<image>")
def _():
    tok = _llava_tokens()
    ip = _pil("clip", "CLIPImageProcessorPil")(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    )
    return transformers.LlavaProcessor(
        ip,
        tok,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tok.chat_template,
    )


@_entry("llava_next", image="<image>")
def _():
    tok = _llava_tokens()
    ip = _pil("llava_next", "LlavaNextImageProcessorPil")(
        size={"shortest_edge": 56},
        crop_size={"height": 56, "width": 56},
        image_grid_pinpoints=every_family.OWN["llava_next"]["image_grid_pinpoints"],
    )
    return transformers.LlavaNextProcessor(
        ip,
        tok,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tok.chat_template,
    )


@_entry("llava_onevision", image="<image>", ids={"video_token_index": "<video>"})
def _():
    ip = _pil("llava_onevision", "LlavaOnevisionImageProcessorPil")(
        size={"height": 56, "width": 56},
        image_grid_pinpoints=every_family.OWN["llava_onevision"][
            "image_grid_pinpoints"
        ],
    )
    return without_video(
        transformers.LlavaOnevisionProcessor,
        ip,
        _llava_tokens(),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        image_token="<image>",
        video_token="<video>",
        vision_aspect_ratio="anyres_max_9",
    )


def _internvl_names():
    return {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }


@_entry("internvl", image="<IMG_CONTEXT>")
def _():
    names = _internvl_names()
    tok = tokenizer("<IMG_CONTEXT>", **names)
    ip = _pil("got_ocr2", "GotOcr2ImageProcessorPil")(
        size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=4
    )
    return without_video(
        transformers.InternVLProcessor,
        ip,
        tok,
        image_seq_length=4,
        start_image_token="<img>",
        end_image_token="</img>",
        image_token="<IMG_CONTEXT>",
        video_token="<video>",
        multimodal_pattern=re.compile("(?P<image><IMG_CONTEXT>)|(?P<video><video>)"),
    )


@_entry("paligemma", image="<image>")
def _():
    tok = tokenizer("<image>", image_token="<image>")
    tok.add_special_tokens({"bos_token": "<|endoftext|>"})
    ip = _pil("siglip", "SiglipImageProcessorPil")(size={"height": 56, "width": 56})
    ip.image_seq_length = 16
    return transformers.PaliGemmaProcessor(ip, tok, chat_template=tok.chat_template)


@_entry("aya_vision", image="<|IMG_PATCH|>")
def _():
    tok = tokenizer(
        "<image>",
        image_token="<image>",
        start="<|START_OF_IMG|>",
        end="<|END_OF_IMG|>",
        patch="<|IMG_PATCH|>",
        line="<|IMG_LINE_BREAK|>",
        tile_global="TILE_GLOBAL",
        **{f"tile{i}": f"TILE_{i}" for i in range(1, 7)},
    )
    ip = _pil("got_ocr2", "GotOcr2ImageProcessorPil")(
        size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=4
    )
    return transformers.AyaVisionProcessor(
        ip,
        tok,
        patch_size=14,
        img_size=56,
        downsample_factor=2,
        chat_template=tok.chat_template,
    )


@_entry("janus", image="<image_placeholder>")
def _():
    tok = tokenizer(
        "<image_placeholder>",
        image_token="<image_placeholder>",
        boi_token="<begin_of_image>",
        eoi_token="<end_of_image>",
    )
    ip = _pil("janus", "JanusImageProcessorPil")(
        size={"height": 56, "width": 56}, min_size=14
    )
    return transformers.JanusProcessor(
        ip, tok, chat_template=tok.chat_template, num_image_tokens=16
    )


@_entry("deepseek_vl", image="<image_placeholder>")
def _():
    tok = tokenizer("<image_placeholder>", image_token="<image_placeholder>")
    ip = _pil("deepseek_vl", "DeepseekVLImageProcessorPil")(
        size={"height": 56, "width": 56}, min_size=14
    )
    return transformers.DeepseekVLProcessor(
        ip, tok, chat_template=tok.chat_template, num_image_tokens=16
    )


@_entry("ovis2", image="<IMG_ATOM>")
def _():
    tok = tokenizer(
        "<image>",
        image_token="<image>",
        atom="<IMG_ATOM>",
        **{
            f"t{i}": t
            for i, t in enumerate(
                ("<img>", "<pre>", "<row>", "<col>", "</img>", "<grid>")
            )
        },
    )
    ip = _pil("ovis2", "Ovis2ImageProcessorPil")(size={"height": 56, "width": 56})
    return transformers.Ovis2Processor(
        ip, tok, chat_template=tok.chat_template, image_seq_length=16
    )


@_entry("video_llama_3", image="<image>", ids={"video_token_id": "<video>"})
def _():
    names = {"image_token": "<image>", "video_token": "<video>"}
    tok = tokenizer("<image>", **names)
    ip = _pil("video_llama_3", "VideoLlama3ImageProcessorPil")(
        size={"shortest_edge": 28**2, "longest_edge": 112**2}, patch_size=14
    )
    return without_video(transformers.VideoLlama3Processor, ip, tok, **names)


@_entry("aria", image="<|img|>")
def _():
    tok = tokenizer("<|img|>", image_token="<|img|>")
    ip = _pil("aria", "AriaImageProcessorPil")(max_image_size=490, min_image_size=336)
    return transformers.AriaProcessor(
        ip, tok, chat_template=tok.chat_template, size_conversion={490: 4, 980: 8}
    )


@_entry(
    "paddleocr_vl",
    image="<|IMAGE_PLACEHOLDER|>",
    ids={
        "vision_start_token_id": "<|IMAGE_START|>",
        "vision_end_token_id": "<|IMAGE_END|>",
        "video_token_id": "<|video_pad|>",
    },
)
def _():
    tok = tokenizer(
        "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        image_token="<|IMAGE_PLACEHOLDER|>",
        start="<|IMAGE_START|>",
        end="<|IMAGE_END|>",
        video="<|video_pad|>",
    )
    ip = _pil("paddleocr_vl", "PaddleOCRVLImageProcessorPil")(
        size={"shortest_edge": 56**2, "longest_edge": 224**2}, patch_size=14
    )
    return transformers.PaddleOCRVLProcessor(ip, tok, chat_template=tok.chat_template)


@_entry(
    "hunyuan_vl",
    image="<|hy_image|>",
    ids={
        "image_start_token_id": "<|hy_image_start|>",
        "image_end_token_id": "<|hy_image_end|>",
    },
)
def _():
    tok = tokenizer(
        "<|hy_image_start|><|hy_image|><|hy_image_end|>",
        image_token="<|hy_image|>",
        image_start_token="<|hy_image_start|>",
        image_end_token="<|hy_image_end|>",
    )
    ip = _pil("hunyuan_vl", "HunYuanVLImageProcessorPil")(
        size={"shortest_edge": 64**2, "longest_edge": 256**2}, patch_size=16
    )
    return transformers.HunYuanVLProcessor(ip, tok, chat_template=tok.chat_template)


def _qwen_like(cls):
    return without_video(cls, _qwen_images(), _qwen_tokens(), **_QWEN_ATTRIBUTES)


@_entry("exaone4_5", image="<|image_pad|>", ids=_QWEN)
def _():
    return _qwen_like(transformers.Exaone4_5_Processor)


@_entry("lfm3_vl", image="<|image_pad|>", ids=_QWEN)
def _():
    return _qwen_like(transformers.Lfm3VlProcessor)


@_entry("qianfan_ocr", image="<IMG_CONTEXT>")
def _():
    tok = tokenizer("<image>", image_token="<image>", **_internvl_names())
    ip = _pil("got_ocr2", "GotOcr2ImageProcessorPil")(
        size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=4
    )
    return transformers.QianfanOCRProcessor(
        ip, tok, image_seq_length=4, chat_template=tok.chat_template
    )


@_entry("lighton_ocr", image="<|image_pad|>")
def _():
    tok = tokenizer(
        "<|image_pad|>",
        image_token="<|image_pad|>",
        image_break_token="<|vision_pad|>",
        image_end_token="<|vision_end|>",
    )
    ip = _pil("pixtral", "PixtralImageProcessorPil")(
        size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}
    )
    cls = transformers.LightOnOcrProcessor
    return cls(ip, tok, chat_template=tok.chat_template)


@_entry("llava_next_video", image="<image>", ids={"video_token_index": "<video>"})
def _():
    ip = _pil("llava_next", "LlavaNextImageProcessorPil")(
        size={"shortest_edge": 56},
        crop_size={"height": 56, "width": 56},
        image_grid_pinpoints=every_family.OWN["llava_next_video"][
            "image_grid_pinpoints"
        ],
    )
    return without_video(
        transformers.LlavaNextVideoProcessor,
        ip,
        _llava_tokens(),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        video_token="<video>",
    )


@_entry("video_llava", image="<image>", ids={"video_token_index": "<video>"})
def _():
    ip = _pil("clip", "CLIPImageProcessorPil")(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    )
    return without_video(
        transformers.VideoLlavaProcessor,
        ip,
        _llava_tokens(),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        video_token="<video>",
    )


@_entry("hyperclovax_vision_v2", image="<|image_pad|>", ids=_QWEN)
def _():
    cls = transformers.HyperCLOVAXVisionV2Processor
    own = {"_pending_video_durations": [], "_pending_needs_placeholder": None}
    return without_video(cls, _qwen_images(), _qwen_tokens(), **_QWEN_ATTRIBUTES, **own)


@_entry("cosmos3_omni", image="<|image_pad|>", ids=_QWEN)
def _():
    return _qwen_like(transformers.Qwen3VLProcessor)


@cache
def processor_of(name: str) -> ProcessorMixin:
    """The family's processor."""
    return ENTRIES[name].make()


def model_of(name: str, attention: str = "sdpa", **text_config):
    """The tiny model that :func:`processor_of` writes for."""
    entry, tok = ENTRIES[name], processor_of(name).tokenizer
    config = config_of(name, **text_config)
    ids = tok.convert_tokens_to_ids
    tokens = {
        "image_token_id": entry.image,
        "image_token_index": entry.image,
        **entry.ids,
    }
    for setting, token in tokens.items():
        if hasattr(config, setting):
            setattr(config, setting, ids(token))
    for holder in {id(c): c for c in (config, config.get_text_config())}.values():
        holder.eos_token_id, holder.pad_token_id = ids(["<|im_end|>", "<|endoftext|>"])
        holder.bos_token_id = ids("<|endoftext|>")
    config._attn_implementation = attention
    model = every_family.random_model(
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)], config
    )
    model.generation_config.eos_token_id = ids("<|im_end|>")
    model.generation_config.pad_token_id = ids("<|endoftext|>")
    return model
