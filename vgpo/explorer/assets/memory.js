// Will it fit? The formulas of vgpo/memory/items.py again, with its letters, and a view
// in which their settings can be moved. tests/memory holds both to the same bytes.

const VGPOMemory = (() => {
  const TOKEN_TILE = 4096;
  const WORD_TILE = 32768;
  const GIB = 2 ** 30;

  const number = (s) => (s.bf16 || s.dtype === "bfloat16" ? 2 : 4);
  const weight = (s) => (s.dtype === "bfloat16" ? 2 : 4);
  const trainedNumber = (s) => (s.use_peft ? 4 : weight(s));
  const shared = (size, s, stage) =>
    s.zero_stage >= stage ? Math.ceil(size / s.processes) : size;
  const colocated = (s) => s.use_vllm && s.vllm_mode === "colocate";
  const tokens = (s) => s.prompt_tokens + s.image_tokens + s.max_completion_length;
  const rollouts = (s) => s.per_device_train_batch_size * s.steps_per_generation;
  const patches = (m, s) => m.patches * s.image_tokens;

  function trained(m, s) {
    if (!s.use_peft) return m.parameters;
    return s.lora_r * (m.adapters + (s.lora_vision ? m.vision_adapters : 0));
  }

  function weights(m, s) {
    if (!s.load_in_4bit) return shared(weight(s) * m.parameters, s, 3);
    const packed = s.double_quantisation ? m.nf4 : m.nf4_single;
    return shared(packed + weight(s) * (m.parameters - m.quantised), s, 3);
  }

  function optimizer(m, s) {
    const count = trained(m, s);
    let size = (s.optim === "adamw" ? 2 : 0) * trainedNumber(s) * count;
    if (s.zero_stage && trainedNumber(s) === 2) {
      size = { adamw: 12, sgd: 4, adamw_8bit: 6 }[s.optim] * count;
    } else if (s.optim === "adamw_8bit") {
      size = 2 * (count + 4 * Math.ceil(count / 256));
    }
    return shared(size, s, 1);
  }

  const vllm = (s, cards) =>
    colocated(s) ? Math.floor(s.vllm_gpu_memory_utilization * cards[s.card]) : 0;

  function vllmSequences(m, s, cards, besides) {
    if (!colocated(s)) return null;
    const n = s.vllm_tensor_parallel_size;
    const room = vllm(s, cards) - Math.ceil((2 * m.parameters) / n) - besides;
    const token = 4 * m.layers * m.key_value;
    return Math.max(0, Math.floor((room * n) / (token * tokens(s))));
  }

  const cache = (m, s, length) =>
    2 * m.layers * m.key_value * number(s) * rollouts(s) * length;
  const unpacked = (m, s) => (s.load_in_4bit ? number(s) * m.largest : 0);

  function forward(m, s, rows, length) {
    const e = number(s);
    const head = Math.floor(m.query / m.heads);
    let text = e * (3 * m.intermediate + 4 * m.hidden + 2 * head) + 4;
    if (s.use_peft) text += e * m.intermediate;
    const language = rows * length * text + unpacked(m, s);
    if (!m.vision_layers) return language;
    const mlp = e * (3 * m.vision_intermediate + 3 * m.vision_hidden);
    const turning = (28 + 3 * e) * m.vision_hidden;
    const positions = 8 * Math.floor(m.vision_hidden / m.vision_heads) + 20;
    const patch = Math.max(mlp, turning) + positions + (e === 2 ? e * m.patch : 0);
    return Math.max(language, rows * patches(m, s) * patch);
  }

  function copies(m, s) {
    if (!(s.bf16 && s.dtype === "float32")) return 0;
    if (s.use_peft) return s.gradient_checkpointing ? 0 : 2 * m.quantised;
    return 2 * (m.quantised + m.vision_parameters);
  }

  function head(m, s) {
    const e = number(s);
    const batch = s.per_device_train_batch_size;
    const onCpu = s.device === "cpu";
    const count = batch * (onCpu ? tokens(s) - 1 : s.max_completion_length);
    if (s.logits === "whole") {
      return batch * s.max_completion_length * m.vocabulary * (e + 12);
    }
    const tile = Math.min(count, TOKEN_TILE);
    let size = tile * WORD_TILE * e + count * m.hidden * (e + 4);
    if (onCpu) size += 29 * tile * Math.min(m.vocabulary, WORD_TILE);
    if (!s.use_peft) {
      size += m.vocabulary * m.hidden * (4 + (weight(s) !== 4 ? weight(s) : 0));
    }
    return size;
  }

  function lingering(m, s) {
    const size = copies(m, s);
    if (!s.gradient_checkpointing || s.logits === "whole") return size;
    const e = number(s);
    const batch = s.per_device_train_batch_size;
    const onCpu = s.device === "cpu";
    const count = batch * (onCpu ? tokens(s) - 1 : s.max_completion_length);
    const tile = Math.min(count, TOKEN_TILE);
    let first = tile * WORD_TILE * e + count * m.hidden * e;
    if (onCpu) first += 16 * tile * Math.min(m.vocabulary, WORD_TILE);
    return Math.max(0, size - (head(m, s) - first));
  }

  function layer(m, s) {
    const [e, h, i, q] = [number(s), m.hidden, m.intermediate, m.query];
    let token = 4 * e * q + 4 * m.heads;
    if (s.use_peft) {
      token += 2 * (4 * h + 4) + e * (3 * i + (s.bf16 ? 5 * h + q + i : 2 * h + i));
      token += e * s.lora_r * m.linear_layers;
    } else if (e < weight(s)) token += 2 * (8 * h + 4) + e * (5 * h + 4 * i);
    else token += 2 * (4 * h + 2 * e * h + 4) + 4 * e * i;
    return s.per_device_train_batch_size * tokens(s) * token;
  }

  function block(m, s) {
    const [e, h, i] = [number(s), m.vision_hidden, m.vision_intermediate];
    const token =
      2 * (4 * h + 2 * e * h + 4) + 7 * e * h + 4 * m.vision_heads + 4 * e * i;
    return s.per_device_train_batch_size * patches(m, s) * token;
  }

  function kept(m, s) {
    const [e, w, batch] = [number(s), weight(s), s.per_device_train_batch_size];
    const [t, p] = [batch * tokens(s), batch * patches(m, s)];
    const tower = !s.use_peft || s.lora_vision || s.gradient_checkpointing;
    let size = t * m.hidden * (2 * w + 8);
    if (tower) size += p * (m.vision_hidden * (4 * e + 4) + (e < 4 ? m.patch * e : 0));
    if (s.gradient_checkpointing) {
      return size + m.layers * t * m.hidden * w + m.vision_layers * p * m.vision_hidden * w;
    }
    return size + m.layers * layer(m, s) + (tower ? m.vision_layers * block(m, s) : 0);
  }

  function backward(m, s) {
    const [e, batch] = [number(s), s.per_device_train_batch_size];
    const again = s.gradient_checkpointing;
    let size = batch * tokens(s) * e * 2 * (m.intermediate + m.hidden) + unpacked(m, s);
    if (again) size += layer(m, s);
    if (!s.use_peft) size += weight(s) * m.largest;
    let tower = batch * patches(m, s) * e * 2 * (m.vision_intermediate + m.vision_hidden);
    if (again) tower += block(m, s);
    return Math.max(size, tower);
  }

  const sum = (parts) => Object.values(parts).reduce((a, b) => a + b, 0);

  // What vgpo.memory.estimate returns, for a shape and settings. `given` has the cards'
  // bytes, the share that is left free, and what vLLM takes beside weights and cache.
  function estimate(m, s, given) {
    const { cards, spare, vllm_besides: besides } = given;
    const prompt = s.prompt_tokens + s.image_tokens;
    const batch = s.per_device_train_batch_size;
    const always = {
      weights: weights(m, s),
      adapters: s.use_peft ? shared(4 * trained(m, s), s, 3) : 0,
      optimizer: optimizer(m, s),
      "reference model":
        s.use_peft || !s.beta ? 0 : shared(weight(s) * m.parameters, s, 3),
      vLLM: s.vllm_enable_sleep_mode ? 0 : vllm(s, cards),
      pixels: rollouts(s) * 4 * m.patch * patches(m, s),
    };
    const cast = { "bfloat16 copies of weights": copies(m, s) };
    const update = {
      gradients: shared(trainedNumber(s) * trained(m, s), s, 2),
      activations: kept(m, s),
    };
    const logits = rollouts(s) * m.vocabulary * (number(s) + 12);
    const key = m.key_value * number(s) * rollouts(s) * tokens(s);
    const sampling = s.use_vllm
      ? { sampling: { "vLLM, awake": s.vllm_enable_sleep_mode ? vllm(s, cards) : 0 } }
      : {
          "reading prompts": {
            "keys and values": cache(m, s, prompt),
            "one layer of all rollouts": forward(m, s, rollouts(s), prompt),
            ...cast,
          },
          sampling: {
            "keys and values": cache(m, s, tokens(s)),
            "logits of a token": key + logits,
            ...cast,
          },
        };
    const moments = {
      ...sampling,
      scoring: { "one layer": forward(m, s, batch, tokens(s)), ...cast },
      loss: {
        ...update,
        "log-probabilities": head(m, s),
        "bfloat16 copies of weights": lingering(m, s),
      },
      backward: { ...update, "one layer": backward(m, s) },
    };
    const names = Object.keys(moments);
    const peak = names.reduce((a, b) => (sum(moments[b]) > sum(moments[a]) ? b : a));
    const total = sum(always) + sum(moments[peak]);
    const card = s.card === null ? null : cards[s.card];
    return {
      kept: always, moments, peak, total, card,
      fits: card === null ? null : total <= (1 - spare) * card,
      sequences: vllmSequences(m, s, cards, besides),
    };
  }

  // -- the view -----------------------------------------------------------------

  const gigabytes = (size) => `${(size / 1e9).toFixed(size < 1e10 ? 2 : 1)} GB`;
  const WAYS = {
    "all weights": { use_peft: false, load_in_4bit: false },
    LoRA: { use_peft: true, load_in_4bit: false },
    QLoRA: { use_peft: true, load_in_4bit: true },
  };
  // Steps of the sliders. What else is set stays as it was given.
  const SLIDERS = {
    lora_r: ["rank of adapters", [4, 8, 16, 32, 64, 128]],
    prompt_tokens: ["words of a prompt", [50, 100, 150, 250, 500, 1000, 2000, 4096]],
    image_tokens: ["image tokens of a prompt", [0, 64, 128, 256, 334, 512, 1024, 1337, 2048, 4096, 5348]],
    max_completion_length: ["longest response, tokens", [128, 256, 512, 1024, 2048, 4096, 8192, 16384]],
    per_device_train_batch_size: ["rollouts of a micro-batch", [1, 2, 4, 8, 16, 32]],
    steps_per_generation: ["micro-batches of a generation", [1, 2, 4, 8, 16, 32, 64, 128]],
    vllm_gpu_memory_utilization: ["vLLM's share of the card", [0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8]],
    processes: ["cards that train together", [1, 2, 4, 8, 16, 32]],
  };

  function mount(root, data) {
    const s = { ...data.settings };
    let model = 0;
    const out = element("div", { class: "vm-out" });
    const controls = element("fieldset", { class: "vm-controls" },
      element("legend", {}, "A run"));

    function select(name, label, options, chosen, changed) {
      const id = uniqueId(name);
      const input = element("select", { id, name, onchange: () => { changed(input.value); draw(); } },
        ...options.map((text) => element("option", { value: text, selected: text === chosen }, text)));
      controls.append(element("label", { for: id }, label, input));
    }
    function tick(name, label) {
      const input = element("input", { type: "checkbox", name, checked: Boolean(s[name]),
        onchange: () => { s[name] = input.checked; draw(); } });
      controls.append(element("label", { class: "vm-tick" }, input, ` ${label}`));
    }
    function slider(name, label, steps) {
      const values = [...new Set([...steps, s[name]])].sort((a, b) => a - b);
      const id = uniqueId(name);
      const shown = element("output", { for: id });
      const input = element("input", { id, name, type: "range", min: 0,
        max: values.length - 1, step: 1, value: values.indexOf(s[name]) });
      const say = () => {
        s[name] = values[Number(input.value)];
        shown.textContent = s[name].toLocaleString("en");
        input.setAttribute("aria-valuetext", shown.textContent);
      };
      input.addEventListener("input", () => { say(); draw(); });
      say();
      controls.append(element("label", { for: id }, `${label}: `, shown, input));
    }

    const way = Object.keys(WAYS).find((name) =>
      Object.entries(WAYS[name]).every(([k, v]) => s[k] === v));
    select("model", "model", data.shapes.map((m) => m.name), data.shapes[0].name,
      (name) => { model = data.shapes.findIndex((m) => m.name === name); });
    select("way", "what is trained", Object.keys(WAYS), way,
      (name) => Object.assign(s, WAYS[name]));
    select("dtype", "weights in", ["bfloat16", "float32"], s.dtype,
      (name) => { s.dtype = name; });
    select("card", "card", Object.keys(data.cards), s.card, (name) => { s.card = name; });
    select("optim", "optimizer", data.optimizers, s.optim, (name) => { s.optim = name; });
    select("zero_stage", "DeepSpeed ZeRO", ["0", "1", "2", "3"], String(s.zero_stage),
      (name) => { s.zero_stage = Number(name); });
    for (const [name, [label, steps]] of Object.entries(SLIDERS)) slider(name, label, steps);
    tick("gradient_checkpointing", "gradient checkpointing");
    tick("use_vllm", "vLLM samples, on the same card");
    tick("vllm_enable_sleep_mode", "vLLM sleeps while there is training");
    const beta = element("input", { type: "checkbox", name: "beta", checked: s.beta > 0,
      onchange: () => { s.beta = beta.checked ? 0.04 : 0; draw(); } });
    controls.append(element("label", { class: "vm-tick" }, beta, " KL to a reference (beta above 0)"));
    root.append(controls, out);

    function draw() {
      for (const [name, used] of [["lora_r", s.use_peft],
        ["vllm_gpu_memory_utilization", s.use_vllm], ["vllm_enable_sleep_mode", s.use_vllm],
        ["processes", s.zero_stage > 0]]) {
        controls.querySelector(`[name="${name}"]`).disabled = !used;
      }
      const m = data.shapes[model];
      const found = estimate(m, s, data);
      const rows = [
        ...Object.entries(found.kept).map(([name, size]) => [name, "kept", size]),
        ...Object.entries(found.moments[found.peak]).map(([name, size]) =>
          [name, found.peak, size]),
      ].filter(([, , size]) => size > 0);
      const room = found.card;
      const verdict = found.fits ? `fits a card of ${s.card}`
        : found.total <= room ? `is tight on a card of ${s.card}: under a tenth is left`
          : `does not fit a card of ${s.card}`;
      const widest = Math.max(found.total, room);
      const bar = element("div", { class: "vm-bar", role: "img",
        "aria-label": `${gigabytes(found.total)} of ${gigabytes(room)}; the table has the parts` },
        ...rows.map(([name, when, size], i) => element("span", {
          class: when === "kept" ? "vm-kept" : "vm-then",
          style: `width:${(100 * size) / widest}%`, title: `${name}, ${gigabytes(size)}`,
        }, size / widest > 0.04 ? String(i + 1) : "")),
        element("i", { class: "vm-card", style: `left:${(100 * room) / widest}%` }));
      const table = element("table", {},
        element("thead", {}, element("tr", {}, ...["", "item", "when", "bytes"].map((word) =>
          element("th", { scope: "col" }, word)))),
        element("tbody", {}, ...rows.map(([name, when, size], i) => element("tr", {},
          element("td", {}, String(i + 1)), element("th", { scope: "row" }, name),
          element("td", {}, when), element("td", {}, gigabytes(size))))));
      const others = Object.entries(found.moments).filter(([name]) => name !== found.peak)
        .map(([name, parts]) => `${name} ${gigabytes(sum(parts))}`).join(", ");
      const notes = [
        element("p", {}, `Beside what is kept, "${found.peak}" takes most. Less at other moments: ${others}.`)];
      if (found.sequences !== null) {
        notes.push(element("p", {}, found.sequences
          ? `vLLM's cache holds ${found.sequences} rollouts of ${tokens(s).toLocaleString("en")} tokens at once.`
          : "vLLM's share has no room for one rollout: raise it, or shorten responses."));
      }
      out.replaceChildren(
        element("p", { class: "vm-verdict", role: "status" },
          `${m.name}: ${gigabytes(found.total)} ${verdict}.`),
        bar,
        element("p", { class: "vm-key" }, element("span", { class: "vm-kept" }), " kept from step to step",
          element("span", { class: "vm-then" }), ` at the largest moment, "${found.peak}"`,
          element("span", { class: "vm-line" }), ` end of the card of ${s.card}, which holds ${gigabytes(room)}`),
        element("div", { class: "vm-table" }, table), ...notes);
    }
    draw();
  }

  return { estimate, mount };
})();

function memoryView(root, data) {
  VGPOMemory.mount(root, data);
}
