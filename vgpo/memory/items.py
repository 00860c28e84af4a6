r"""The formulas, one function an item.

Letters: of the model, L layers of width h, MLP i, queries q, keys k (as wide as
values), V words; of the run, b rows of a pass with S = P + T tokens each, R rollouts of
a generation; w bytes of a weight, e bytes of a number in a pass (2 in bfloat16, 4 in
float32). The vision tower's are marked with v, and n is its patches in a row.

What a layer keeps for its backward pass is the list of tensors that autograd saves in
transformers' Qwen2.5-VL with ``sdpa``; ``tests/memory`` counts it again. Other families
differ by a norm or a bias.
"""

from math import ceil

from vgpo.memory.settings import CARDS, Settings
from vgpo.memory.shapes import Shape

# TRL's fused head multiplies tiles of so many tokens and words.
TOKEN_TILE, WORD_TILE = 4096, 32768

VLLM_BESIDES = 2 * 10**9
"""What vLLM takes beside weights and cache, for graphs and activations. A guess."""


def number(s: Settings) -> int:
    """e: bytes of a number in a pass."""
    return 2 if s.bf16 or s.dtype == "bfloat16" else 4


def state(s: Settings) -> int:
    """Bytes of a number of the states between layers, which are as wide as weights."""
    return weight(s)


def weight(s: Settings) -> int:
    """w: bytes of a weight that is not in 4 bits."""
    return 2 if s.dtype == "bfloat16" else 4


def shared(size: int, s: Settings, stage: int) -> int:
    """What is left of ``size`` on one process, if ZeRO shares it from ``stage`` on
    (Rajbhandari et al., ZeRO, arXiv 1910.02054, section 5)."""
    return ceil(size / s.processes) if s.zero_stage >= stage else size


def trained(m: Shape, s: Settings) -> int:
    """Numbers that are trained: all, or r (in + out) per adapted matrix (Hu et al.,
    LoRA, arXiv 2106.09685, section 4.1)."""
    if not s.use_peft:
        return m.parameters
    return s.lora_r * (m.adapters + (m.vision_adapters if s.lora_vision else 0))


# What is kept from step to step ---------------------------------------------------


def weights(m: Shape, s: Settings) -> int:
    """w per parameter; in 4 bits, NF4 for the language model's linear layers. Exact."""
    if s.load_in_4bit:
        packed = m.nf4 if s.double_quantisation else m.nf4_single
        size = packed + weight(s) * (m.parameters - m.quantised)
    else:
        size = weight(s) * m.parameters
    return shared(size, s, 3)


def adapters(m: Shape, s: Settings) -> int:
    """4 bytes a number: PEFT and this trainer keep adapters in float32. Exact, but
    under ZeRO-3, where TRL has them in bfloat16: too high there."""
    return shared(4 * trained(m, s), s, 3) if s.use_peft else 0


def _trained_number(s: Settings) -> int:
    return 4 if s.use_peft else weight(s)


def gradients(m: Shape, s: Settings) -> int:
    """As wide as what they are of. Exact from the second micro-batch on; too high in
    the first, where they come to be while activations go."""
    return shared(_trained_number(s) * trained(m, s), s, 2)


def optimizer(m: Shape, s: Settings) -> int:
    """AdamW: two moments, as wide as the weight (Kingma and Ba, arXiv 1412.6980). In 8
    bits: one byte each and 4 per 256 (Dettmers et al., arXiv 2110.02861); too low where
    bitsandbytes keeps small tensors in float32. Under DeepSpeed a float32 copy of
    bfloat16 weights comes with float32 moments: 12 bytes."""
    count = trained(m, s)
    if s.zero_stage and _trained_number(s) == 2:
        size = {"adamw": 12, "sgd": 4}.get(s.optim, 6) * count
    elif s.optim == "adamw_8bit":
        size = 2 * (count + 4 * ceil(count / 256))
    else:
        size = (2 if s.optim == "adamw" else 0) * _trained_number(s) * count
    return shared(size, s, 1)


def reference(m: Shape, s: Settings) -> int:
    """A copy of the weights where the KL term needs one: TRL loads it in their type,
    and none beside adapters. Exact."""
    if s.use_peft or not s.beta:
        return 0
    return shared(weight(s) * m.parameters, s, 3)


def vllm(s: Settings) -> int:
    """vLLM's share of the card, filled at its start whatever is needed."""
    if not s.colocated:
        return 0
    return int(s.vllm_gpu_memory_utilization * CARDS[str(s.card)])


def vllm_sequences(m: Shape, s: Settings) -> int | None:
    """Rollouts whose keys and values fit into vLLM's share at full length, beside its
    weights in bfloat16 and :data:`VLLM_BESIDES`; more wait in its queue.

    2 L k 2 bytes a token (Kwon et al., PagedAttention, arXiv 2309.06180, section 3).
    Too low where responses end early: pages are taken as they are needed.
    """
    if not s.colocated:
        return None
    cards = s.vllm_tensor_parallel_size
    room = vllm(s) - ceil(2 * m.parameters / cards) - VLLM_BESIDES
    token = 4 * m.layers * m.key_value
    return max(0, room * cards // (token * s.tokens))


def pixels(m: Shape, s: Settings) -> int:
    """Of all rollouts of a generation, in float32, as processors give them. Exact for
    pictures of this size; each of the G rollouts of a prompt has its own copy."""
    return s.rollouts * 4 * m.patch * _patches(m, s)


def _patches(m: Shape, s: Settings) -> int:
    return m.patches * s.image_tokens


# Of a pass without gradient -------------------------------------------------------


def cache(m: Shape, s: Settings, tokens: int) -> int:
    """Keys and values of transformers' cache: 2 L k e a token, all rollouts padded to
    the longest. Exact if one response is as long as is allowed; too high else."""
    return 2 * m.layers * m.key_value * number(s) * s.rollouts * tokens


def forward(m: Shape, s: Settings, rows: int, tokens: int) -> int:
    """Most that one layer has alive in a pass without gradient, of the language model
    or of the tower, which runs before it.

    Language model: three tensors of the MLP, four of the states, two of positions:
    e (3 i + 4 h + 2 q / heads) a token. Tower: the MLP's three and three states, or
    where queries and keys are turned, seven states in float32 and three in e; and the
    pixels in e. Too low for ``eager`` attention, which forms all weights.
    """
    e = number(s)
    head = m.query // m.heads
    text = e * (3 * m.intermediate + 4 * m.hidden + 2 * head) + 4
    if s.use_peft:
        text += e * m.intermediate  # the adapter's part, before it is added
    language = rows * tokens * text
    if not m.vision_layers:
        return language + unpacked(m, s)
    mlp = e * (3 * m.vision_intermediate + 3 * m.vision_hidden)
    turning = (28 + 3 * e) * m.vision_hidden
    positions = 8 * (m.vision_hidden // m.vision_heads) + 20
    cast = e * m.patch if e == 2 else 0
    patch = max(mlp, turning) + positions + cast
    return max(language + unpacked(m, s), rows * _patches(m, s) * patch)


def unpacked(m: Shape, s: Settings) -> int:
    """The largest matrix out of its 4 bits, for the time of one product."""
    return number(s) * m.largest if s.load_in_4bit else 0


def copies(m: Shape, s: Settings) -> int:
    """Copies in bfloat16 that autocast keeps of float32 weights. Too high in a backward
    pass with checkpointing, which makes them layer by layer."""
    if not (s.bf16 and s.dtype == "float32"):
        return 0
    if s.use_peft:
        return 0 if s.gradient_checkpointing else 2 * m.quantised
    return 2 * (m.quantised + m.vision_parameters)


def sampling(m: Shape, s: Settings) -> int:
    """One layer's keys while a token is added to them; logits of one token of each
    rollout, and three copies of them in float32. Too low with top_p, which sorts."""
    key = m.key_value * number(s) * s.rollouts * s.tokens
    return key + s.rollouts * m.vocabulary * (number(s) + 12)


# Of an update ---------------------------------------------------------------------


def head(m: Shape, s: Settings) -> int:
    """Log-probabilities of a micro-batch, and their gradient.

    Chunked, TRL's fused head: one tile of logits (up to 4,096 tokens, always 32,768
    words wide); the states of the response and their gradient in float32; where the
    head is trained, its gradient in float32, and again in w. On a CPU every position
    counts, and 29 bytes more a logit of the tile. Whole: logits (b, T, V) in e, in
    float32, and twice more for softmax and gradient.
    """
    e, batch = number(s), s.per_device_train_batch_size
    on_cpu = s.device == "cpu"
    tokens = batch * (s.tokens - 1 if on_cpu else s.max_completion_length)
    if s.logits == "whole":
        return batch * s.max_completion_length * m.vocabulary * (e + 12)
    tile = min(tokens, TOKEN_TILE)
    size = tile * WORD_TILE * e + tokens * m.hidden * (e + 4)
    if on_cpu:
        size += 29 * tile * min(m.vocabulary, WORD_TILE)
    if not s.use_peft:
        size += m.vocabulary * m.hidden * (4 + (weight(s) if weight(s) != 4 else 0))
    return size


def lingering(m: Shape, s: Settings) -> int:
    """What :func:`copies` add to the loss. With checkpointing they are gone before the
    head's gradient is made, so only what they take beyond it counts: on a GPU that
    gradient is all of the head but a tile and the states, on a CPU 13 bytes of the 29 a
    logit as well."""
    size = copies(m, s)
    if not s.gradient_checkpointing or s.logits == "whole":
        return size
    e, batch = number(s), s.per_device_train_batch_size
    on_cpu = s.device == "cpu"
    tokens = batch * (s.tokens - 1 if on_cpu else s.max_completion_length)
    tile = min(tokens, TOKEN_TILE)
    first = tile * WORD_TILE * e + tokens * m.hidden * e
    if on_cpu:
        first += 16 * tile * min(m.vocabulary, WORD_TILE)
    return max(0, size - (head(m, s) - first))


def layer(m: Shape, s: Settings) -> int:
    """What autograd keeps of one layer of the language model, for a micro-batch.

    A token's bytes, all weights trained: norms 2 (4 h + 2 e h + 4), attention 4 e q
    (keys and values repeated for all heads, as padding needs it) and 4 per head, MLP
    4 e i. Under autocast over float32 weights the norms are 2 (8 h + 4), and five
    inputs are cast, e 5 h. Adapters: norms 2 (4 h + 4), attention and MLP
    e (4 q + 3 i), the inputs of the adapters (2 h + i, and with bfloat16 products a
    copy for each: 5 h + q + i), and r per adapted matrix.
    """
    e, h, i, q = number(s), m.hidden, m.intermediate, m.query
    token = 4 * e * q + 4 * m.heads
    if s.use_peft:
        inputs = 5 * h + q + i if s.bf16 else 2 * h + i
        token += 2 * (4 * h + 4) + e * (3 * i + inputs)
        token += e * s.lora_r * m.linear_layers
    elif e < weight(s):
        token += 2 * (8 * h + 4) + e * (5 * h + 4 * i)
    else:
        token += 2 * (4 * h + 2 * e * h + 4) + 4 * e * i
    return s.per_device_train_batch_size * s.tokens * token


def block(m: Shape, s: Settings) -> int:
    """The same of a layer of the vision tower: norms 2 (4 h + 2 e h + 4), attention
    7 e h and 4 per head, MLP 4 e i, a patch. Too high, by a fifth, where the tower is
    frozen."""
    e, h, i = number(s), m.vision_hidden, m.vision_intermediate
    token = 2 * (4 * h + 2 * e * h + 4) + 7 * e * h + 4 * m.vision_heads + 4 * e * i
    return s.per_device_train_batch_size * _patches(m, s) * token


def kept(m: Shape, s: Settings) -> int:
    """Activations between forward and backward pass: with checkpointing the input of
    every layer (Chen et al., arXiv 1604.06174), else all that the layers keep; of the
    tower too, unless it is frozen and nothing is checkpointed. And of norms, embeddings
    and projector: 4 states of the language model, 4 of the tower."""
    e, w, batch = number(s), state(s), s.per_device_train_batch_size
    tokens, patches = batch * s.tokens, batch * _patches(m, s)
    # With adapters, checkpointing has embeddings, those of patches too, ask for
    # gradients, so that the tower's graph is built although nothing in it is trained.
    tower = not s.use_peft or s.lora_vision or s.gradient_checkpointing
    size = tokens * m.hidden * (2 * w + 8)
    if tower:
        size += patches * (
            m.vision_hidden * (4 * e + 4) + (m.patch * e if e < 4 else 0)
        )
    if s.gradient_checkpointing:
        size += m.layers * tokens * m.hidden * w
        return size + m.vision_layers * patches * m.vision_hidden * w
    size += m.layers * layer(m, s)
    return size + (m.vision_layers * block(m, s) if tower else 0)


def backward(m: Shape, s: Settings) -> int:
    """On the way back: with checkpointing one layer whole again, of the language model
    or of the tower; gradients of its MLP, two i and two h a token; a matrix unpacked,
    and the gradient of one before it is added to the sum."""
    e, batch = number(s), s.per_device_train_batch_size
    again = s.gradient_checkpointing
    size = batch * s.tokens * e * 2 * (m.intermediate + m.hidden) + unpacked(m, s)
    if again:
        size += layer(m, s)
    if not s.use_peft:
        size += weight(s) * m.largest
    tower = batch * _patches(m, s) * e * 2 * (m.vision_intermediate + m.vision_hidden)
    if again:
        tower += block(m, s)
    return max(size, tower)
