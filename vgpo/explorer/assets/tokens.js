// The token view: text tinted by a measure, and where each token looks.
//
// data.answers    what can be shown; see openAnswer for its parts
// data.measure    the measure shown first
// data.beside     whether the second answer stands beside the first from the start
// data.facts      pairs [name, value], written above everything
//
// A pane shows one answer. Its token is the one under the pointer, else the one that
// was clicked (locked), else none, and then the mean over the answer is shown. Panes
// with the same tokens move together.

const SHARES = ["image", "query", "generated"];
const SHARE_NAMES = { image: "image", query: "query", generated: "text so far" };

async function openAnswer(raw) {
  const [table, gate, shares, maps, peaks] = await Promise.all(
    [raw.table, raw.gate, raw.shares, raw.maps && raw.maps.values,
      raw.maps && raw.maps.peaks].map((part) => part && unpack(part))
  );
  const count = raw.tokens.length;
  const measures = new Map(raw.measures.map((name, k) => [
    name, table.values.subarray(k * count, (k + 1) * count),
  ]));
  return { ...raw, count, measures, gate: gate && gate.values, shares, maps, peaks,
    grids: raw.maps ? raw.maps.grids : [], coarse: raw.maps ? raw.maps.coarse : 1 };
}

// Shares of image, query and text of one token (or null: the mean over all), in one
// layer (or null: the mean over layers). Stored as parts of 65,535.
function sharesOf(answer, token, layer) {
  const [layers, count] = answer.shares.shape;
  const sums = [0, 0, 0];
  let cells = 0;
  for (let n = 0; n < layers; n++) {
    if (layer !== null && n !== layer) continue;
    for (let t = token ?? 0; t < (token === null ? count : token + 1); t++) {
      for (let k = 0; k < 3; k++) sums[k] += answer.shares.values[(n * count + t) * 3 + k];
      cells += 65535;
    }
  }
  return sums.map((sum) => sum / cells);
}

// The map of one token over all grids, flat, in shares of attention. Each token's map
// is stored in steps of 1/255 of its own largest value, its peak.
function mapOf(answer, token, layer) {
  const [layers, count, size] = answer.maps.shape;
  const sum = new Float64Array(size);
  let rows = 0;
  for (let n = 0; n < layers; n++) {
    if (layer !== null && layers > 1 && n !== layer) continue;
    for (let t = token ?? 0; t < (token === null ? count : token + 1); t++) {
      const peak = answer.peaks.values[n * count + t] / 255;
      const start = (n * count + t) * size;
      for (let m = 0; m < size; m++) sum[m] += answer.maps.values[start + m] * peak;
      rows += 1;
    }
  }
  return sum.map((value) => value / rows);
}

// The largest share on one image token in any token's map of a layer. It is looked up
// at every step of the pointer, so it is kept. Of one layer the peaks know it; a mean
// over layers has to be made of all maps.
function brightest(answer, layer) {
  answer.brightest ??= new Map();
  if (!answer.brightest.has(layer)) {
    const { count } = answer, [layers] = answer.maps.shape;
    let most = 0;
    if (layers === 1 || layer !== null) {
      const first = layers === 1 ? 0 : layer * count;
      for (const peak of answer.peaks.values.subarray(first, first + count)) {
        if (peak > most) most = peak;
      }
    } else {
      for (let t = 0; t < count; t++) {
        for (const value of mapOf(answer, t, layer)) if (value > most) most = value;
      }
    }
    answer.brightest.set(layer, most);
  }
  return answer.brightest.get(layer);
}

function number(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size < 1e-6) return "0";  // rounding, as in the mean of ψ
  return size < 0.001 ? value.toExponential(1) : value.toFixed(size < 10 ? 3 : 1);
}

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

// A token as it is shown: line breaks and pieces of a character have a sign.
function shownToken(text) {
  return text === "" ? "·" : text.replace(/\n/g, "⏎\n");
}

function namedToken(text) {
  return text.trim() === "" ? (text.includes("\n") ? "⏎" : text ? "␣" : "·") : text.trim();
}

class TokenPane {
  constructor(view, answer) {
    Object.assign(this, { view, answer, locked: null, hovered: null, layer: null,
      known: new Map() });
    this.id = uniqueId("token");
    this.spans = answer.tokens.map((text, i) => element("span", {
      class: "vgpo-token" + (answer.gate && answer.gate[i] ? " vgpo-gated" : "")
        + (text === "" ? " vgpo-part" : ""),
      id: `${this.id}-${i}`, role: "option", "aria-selected": "false", "data-t": i,
    }, shownToken(text)));
    this.strip = element("canvas", { class: "vgpo-strip", "aria-hidden": "true",
      onclick: (event) => this.lock(Math.floor(
        event.offsetX / this.strip.clientWidth * answer.count)) });
    this.text = element("div", {
      class: "vgpo-text", role: "listbox", tabindex: 0,
      "aria-label": `Tokens of ${answer.name}. Arrow keys step, Escape lets go.`,
      onclick: (event) => this.lock(this.tokenAt(event)),
      onpointerover: (event) => {
        if (event.pointerType !== "touch") this.hover(this.tokenAt(event));
      },
      onpointerleave: () => this.hover(null),
      onkeydown: (event) => this.key(event),
    }, this.spans);
    this.look = element("div", { class: "vgpo-look" });
    this.numbers = element("dl", { class: "vgpo-numbers" });
    this.root = element("section", { class: "vgpo-pane", "aria-label": answer.name },
      view.data.answers.length > 1 ? element("h4", {}, answer.name) : null,
      answer.note ? element("p", { class: "vgpo-note" }, answer.note) : null,
      element("div", { class: "vgpo-body" },
        this.look, element("div", { class: "vgpo-reading" }, this.strip, this.text),
        this.numbers));
    this.buildLook();
  }

  buildLook() {
    const { answer } = this;
    this.heading = element("p", { class: "vgpo-which" });
    this.canvases = answer.grids.map(([height, width]) =>
      element("canvas", { class: "vgpo-map", width, height, "aria-hidden": "true" }));
    this.captions = answer.grids.map(() => element("figcaption", {}));
    const figures = answer.aligned
      ? answer.pictures.map((source, k) => this.figure(source, k))
      : [...answer.pictures.map((source) => element("figure", {},
          element("img", { src: source, alt: "a picture that was asked about" }))),
        ...answer.grids.map((grid, k) => this.bareGrid(grid, k))];
    this.bar = element("div", { class: "vgpo-bar", role: "img" },
      SHARES.map((kind) => element("span", { class: `vgpo-${kind}` })));
    this.parts = SHARES.map((kind) => element("b", {}));
    const words = element("div", { class: "vgpo-words" }, this.heading);
    this.look.append(
      figures.length ? element("div", { class: "vgpo-figures" }, figures) : "", words);
    if (answer.shares) {
      words.append(this.bar, element("p", { class: "vgpo-parts" },
        SHARES.map((kind, k) => element("span", { class: `vgpo-of-${kind}` },
          `${SHARE_NAMES[kind]} `, this.parts[k]))));
    }
    if (answer.layers.length > 1) words.append(this.buildSlider());
  }

  // The map lies on the picture from edge to edge. Where cells were joined by two, the
  // last row and column may reach beyond the picture, and are cut off.
  figure(source, k) {
    const grid = this.answer.maps && this.answer.grids[k];
    if (grid) {
      const [height, width] = grid, joined = this.answer.coarse;
      const [rows, columns] = this.answer.fine[k];
      this.canvases[k].style.width = `${100 * width * joined / columns}%`;
      this.canvases[k].style.height = `${100 * height * joined / rows}%`;
    }
    const image = element("img", { src: source, alt: `picture ${k + 1} that was asked about`,
      // A tall one gets narrower, so that it and what it says fit a screen together.
      onload: () => frame.style.setProperty("--shape", image.naturalWidth / image.naturalHeight) });
    const frame = element("div", { class: "vgpo-picture" }, image, grid ? this.canvases[k] : null);
    return element("figure", {}, frame, grid ? this.captions[k] : null);
  }

  bareGrid([height, width], k) {
    this.canvases[k].classList.add("vgpo-bare");
    this.canvases[k].style.aspectRatio = `${width} / ${height}`;
    return element("figure", {}, this.canvases[k], this.captions[k]);
  }

  // 0 is the mean over layers, n the n-th layer that is there.
  buildSlider() {
    const { layers } = this.answer;
    const id = uniqueId("layer");
    const said = element("output", { for: id });
    const say = () => {
      said.textContent = this.layer === null
        ? `mean of ${layers.length}` : String(layers[this.layer]);
    };
    say();
    return element("p", { class: "vgpo-layer" },
      element("label", { for: id }, "layer "),
      element("input", { id, type: "range", min: 0, max: layers.length, value: 0,
        oninput: (event) => {
          this.layer = event.target.value === "0" ? null : Number(event.target.value) - 1;
          say();
          this.view.paint();
        } }), " ", said);
  }

  values(name) {
    const k = SHARES.indexOf(name);
    if (k < 0 || !this.answer.shares) return this.answer.measures.get(name) || null;
    // Asked for at every step of the pointer.
    const key = `${name} ${this.layer}`;
    if (!this.known.has(key)) {
      this.known.set(key, Float32Array.from(this.spans,
        (_, t) => sharesOf(this.answer, t, this.layer)[k]));
    }
    return this.known.get(key);
  }

  tokenAt(event) {
    const span = event.target.closest(".vgpo-token");
    return span && this.text.contains(span) ? Number(span.dataset.t) : null;
  }

  // ---- which token ----

  // The panes that move with this one.
  together() {
    const same = (one) => one.length === this.spans.length
      && one.every((text, i) => text === this.answer.tokens[i]);
    return this.view.panes.filter((pane) => pane === this || same(pane.answer.tokens));
  }

  hover(token) {
    for (const pane of this.together()) { pane.hovered = token; pane.show(); }
  }

  lock(token) {
    if (token === null) return;
    // A second click on the same token lets it go.
    const now = token === this.locked ? null : token;
    for (const pane of this.together()) { pane.locked = now; pane.show(); }
    this.view.say(this.told(now));
  }

  key(event) {
    const last = this.spans.length - 1;
    const at = this.locked ?? -1;
    const to = { ArrowRight: Math.min(at + 1, last), ArrowLeft: Math.max(at - 1, 0),
      ArrowDown: this.onNextLine(at, 1), ArrowUp: this.onNextLine(at, -1),
      Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined || isChord(event)) return;
    event.preventDefault();
    for (const pane of this.together()) { pane.hovered = null; pane.locked = to; pane.show(); }
    if (to !== null) this.spans[to].scrollIntoView({ block: "nearest" });
    this.view.say(this.told(to));
  }

  // The token above or below the one at a place: the nearest of the first other line.
  onNextLine(at, step) {
    if (at < 0) return 0;
    const middle = (box) => box.left + box.width / 2;
    const from = this.spans[at].getBoundingClientRect();
    let best = at, line = null, gap = Infinity;
    for (let i = at + step; i >= 0 && i < this.spans.length; i += step) {
      const box = this.spans[i].getBoundingClientRect();
      if (Math.abs(box.top - from.top) < from.height / 2) continue;
      line ??= box.top;
      if (Math.abs(box.top - line) >= from.height / 2) break;
      if (Math.abs(middle(box) - middle(from)) < gap) {
        gap = Math.abs(middle(box) - middle(from));
        best = i;
      }
    }
    return best;
  }

  // A token in words, for those who do not see the tint.
  told(token) {
    if (token === null) return "No token is held.";
    const values = this.values(this.view.measure);
    const shares = this.answer.shares && sharesOf(this.answer, token, this.layer);
    return `Token ${token + 1} of ${this.spans.length}, ${namedToken(this.answer.tokens[token])}`
      + (values ? `: ${this.view.label(this.view.measure)} ${number(values[token])}` : "")
      + (shares ? `; ${SHARES.map((kind, k) => `${SHARE_NAMES[kind]} ${percent(shares[k])}`).join(", ")}` : "")
      + ".";
  }

  // ---- drawing ----

  // Tints of all tokens: how far each value lies between the ends of the scale.
  tint({ low, high, twoSided }) {
    const values = this.values(this.view.measure);
    this.spans.forEach((span, t) => {
      const value = values ? values[t] : NaN;
      const part = twoSided ? Math.abs(value) / high : (value - low) / (high - low || 1);
      span.style.setProperty("--part", Number.isFinite(part) ? `${(100 * part).toFixed(1)}%` : "0%");
      span.classList.toggle("vgpo-minus", twoSided && value < 0);
    });
    this.scale = { low, high, twoSided, values };
  }

  show() {
    const token = this.hovered ?? this.locked;
    for (const span of this.text.querySelectorAll(".vgpo-held, .vgpo-seen")) {
      span.classList.remove("vgpo-held", "vgpo-seen");
      span.setAttribute("aria-selected", "false");
    }
    if (this.locked !== null) {
      this.spans[this.locked].classList.add("vgpo-held");
      this.spans[this.locked].setAttribute("aria-selected", "true");
      this.text.setAttribute("aria-activedescendant", this.spans[this.locked].id);
    } else this.text.removeAttribute("aria-activedescendant");
    if (this.hovered !== null) this.spans[this.hovered].classList.add("vgpo-seen");
    this.heading.replaceChildren(...(token === null
      ? [`mean over ${this.spans.length} tokens`]
      : [element("code", {}, namedToken(this.answer.tokens[token])),
        ` token ${token + 1} of ${this.spans.length}`]));
    if (this.answer.shares) this.showShares(token);
    if (this.answer.maps) this.showMaps(token);
    this.showNumbers(token);
    this.drawStrip();
  }

  showShares(token) {
    const shares = sharesOf(this.answer, token, this.layer);
    shares.forEach((share, k) => {
      this.bar.children[k].style.width = `${100 * share}%`;
      this.parts[k].textContent = percent(share);
    });
    this.bar.setAttribute("aria-label",
      SHARES.map((kind, k) => `${SHARE_NAMES[kind]} ${percent(shares[k])}`).join(", "));
  }

  showMaps(token) {
    const map = mapOf(this.answer, token, this.layer);
    const top = this.view.fixed && token !== null
      ? brightest(this.answer, this.layer) : map.reduce((a, b) => Math.max(a, b), 0);
    let start = 0;
    this.answer.grids.forEach(([height, width], k) => {
      const part = map.subarray(start, start + height * width);
      start += height * width;
      this.drawMap(this.canvases[k], part, top);
      this.captions[k].textContent =
        `${percent(part.reduce((a, b) => a + b, 0))} of the attention`;
    });
  }

  // One pixel a cell; the style sheet enlarges it without smoothing. "light" leaves
  // the picture's own colours where it is looked at and darkens the rest.
  drawMap(canvas, values, top) {
    const picture = new ImageData(canvas.width, canvas.height);
    const heat = this.view.mapStyle === "heat" || !this.answer.aligned;
    values.forEach((value, m) => {
      const part = top > 0 ? Math.min(value / top, 1) : 0;
      picture.data.set(heat ? [224, 0, 115, 190 * part] : [8, 10, 14, 205 * (1 - part)], 4 * m);
    });
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  showNumbers(token) {
    this.numbers.replaceChildren(...this.view.measures.flatMap(({ name, label, about }) => {
      const values = this.values(name);
      if (!values) return [];
      const known = values.filter(Number.isFinite);
      const value = token === null ? known.reduce((a, b) => a + b, 0) / known.length : values[token];
      const chosen = name === this.view.measure ? "vgpo-chosen" : null;
      return [element("dt", { class: chosen, title: about }, label),
        element("dd", { class: chosen }, number(value))];
    }));
  }

  // The measure along the whole answer; of tokens that share a pixel, the largest.
  drawStrip() {
    const { strip, scale } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(strip.clientWidth * ratio), height = Math.round(strip.clientHeight * ratio);
    if (!width || !scale) return;
    Object.assign(strip, { width, height });
    const pen = strip.getContext("2d");
    const { low, high, twoSided, values } = scale;
    const count = this.spans.length, zero = twoSided ? height / 2 : height;
    const token = this.hovered ?? this.locked;
    const { warm, cool, accent } = this.view.colours;
    for (let t = 0; values && t < count; t++) {
      if (!Number.isFinite(values[t])) continue;
      const part = twoSided ? values[t] / high : (values[t] - low) / (high - low || 1);
      pen.fillStyle = part < 0 ? cool : warm;
      const tall = Math.max(Math.abs(part) * (twoSided ? height / 2 : height), ratio);
      const left = width * t / count;
      pen.fillRect(left, part < 0 ? zero : zero - tall, Math.max(width / count - 1, 1), tall);
    }
    if (token === null) return;
    pen.fillStyle = accent;
    pen.fillRect(width * (token + 0.5) / count - ratio, 0, 2 * ratio, height);
  }
}

class TokenView {
  constructor(root, data, answers) {
    Object.assign(this, { root, data, answers, fixed: true, mapStyle: "light" });
    const there = new Set(answers.flatMap((answer) => [...answer.measures.keys(),
      ...(answer.shares ? SHARES : [])]));
    this.measures = data.measures.filter(({ name }) => there.has(name));
    this.measure = there.has(data.measure) ? data.measure : this.measures[0].name;
    this.chosen = data.beside && answers.length > 1 ? [0, 1] : [0];
    this.place = element("div", { class: "vgpo-panes" });
    this.legend = element("p", { class: "vgpo-legend" });
    this.live = element("p", { class: "vgpo-spoken", role: "status", "aria-live": "polite" });
    this.table = element("details", { class: "vgpo-table", ontoggle: () => this.fillTable() },
      element("summary", {}, "The same as a table"), element("div", {}));
    this.main = element("div", { class: "vgpo-tokens" });
    if (data.facts.length) {
      this.main.append(element("dl", { class: "vgpo-facts" },
        data.facts.map(([name, value]) => element("div", {},
          element("dt", {}, name), element("dd", {}, value)))));
    }
    this.main.append(this.controls(), this.legend, this.place, this.help(), this.table, this.live);
    root.append(this.main);
    this.readColours();
    this.fill();
    onThemeChange(root, () => { this.readColours(); this.paint(); });
    // It is also told when a notebook, which may have turned dark meanwhile, puts the
    // view back into sight.
    new ResizeObserver(() => {
      this.readColours();
      this.panes.forEach((pane) => pane.drawStrip());
    }).observe(this.place);
  }

  readColours() {
    this.colours = Object.fromEntries(["warm", "cool", "accent"].map(
      (name) => [name, themeColour(this.main, `--${name === "accent" ? name : `${name}-line`}`)]));
  }

  select(label, options, value, onchoose) {
    const id = uniqueId("choice");
    return element("span", { class: "vgpo-choice" }, element("label", { for: id }, label),
      element("select", { id, "data-choice": label, onchange: (event) => onchoose(event.target.value) },
        options.map(([key, words]) =>
          element("option", { value: key, selected: String(key) === String(value) }, words))));
  }

  controls() {
    const bar = element("div", { class: "vgpo-controls" });
    const names = this.answers.map((answer, i) => [i, answer.name]);
    if (names.length > 1) {
      bar.append(this.select("answer", names, this.chosen[0], (i) => {
        this.chosen[0] = Number(i); this.fill(); }));
      bar.append(this.select("beside", [["", "nothing"], ...names], this.chosen[1] ?? "", (i) => {
        this.chosen = i === "" ? [this.chosen[0]] : [this.chosen[0], Number(i)]; this.fill(); }));
    }
    bar.append(this.select("tint", this.measures.map(({ name, label }) => [name, label]),
      this.measure, (name) => { this.measure = name; this.paint(); }));
    if (this.answers.some((answer) => answer.maps)) {
      bar.append(this.select("map scale", [["fixed", "fixed"], ["token", "per token"]],
        "fixed", (scale) => { this.fixed = scale === "fixed"; this.paint(); }));
      bar.append(this.select("map", [["light", "spotlight"], ["heat", "heat"]],
        "light", (style) => { this.mapStyle = style; this.paint(); }));
    }
    return bar;
  }

  help() {
    const gates = this.answers.some((answer) => answer.gate);
    return element("p", { class: "vgpo-help" },
      "Point at a token to look, click to hold it, step with the arrow keys, let go with Escape."
      + (gates ? " Underlined: the gate is open, so its weight is raised." : ""));
  }

  label(name) { return this.measures.find((one) => one.name === name).label; }

  say(words) { this.live.textContent = words; }

  fill() {
    this.panes = this.chosen.map((i) => new TokenPane(this, this.answers[i]));
    this.place.replaceChildren(...this.panes.map((pane) => pane.root));
    this.paint();
    this.fillTable();
  }

  // One scale for all panes, so that the same tint is the same value.
  paint() {
    let low = Infinity, high = -Infinity;
    for (const pane of this.panes) {
      for (const value of pane.values(this.measure) || []) {
        if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
      }
    }
    const twoSided = low < 0 && high > 0;
    if (twoSided) { high = Math.max(-low, high); low = -high; }
    const scale = { low, high, twoSided };
    for (const pane of this.panes) { pane.tint(scale); pane.show(); }
    const { about } = this.measures.find((one) => one.name === this.measure);
    this.legend.replaceChildren(number(low),
      element("span", { class: twoSided ? "vgpo-ramp vgpo-both" : "vgpo-ramp" }),
      number(high), element("span", { class: "vgpo-about" }, about));
  }

  // Thousands of rows that few open: made when they are.
  fillTable() {
    const box = this.table.lastChild;
    box.replaceChildren();
    if (!this.table.open) return;
    for (const pane of this.panes) {
      const columns = this.measures.filter(({ name }) => pane.values(name));
      const values = columns.map(({ name }) => pane.values(name));
      box.append(element("table", {}, element("caption", {}, pane.answer.name),
        element("thead", {}, element("tr", {}, ["t", "token", ...columns.map(({ label }) => label)]
          .map((words) => element("th", { scope: "col" }, words)))),
        element("tbody", {}, pane.answer.tokens.map((text, t) => element("tr", {},
          element("td", {}, String(t + 1)), element("th", { scope: "row" }, namedToken(text)),
          values.map((column) => element("td", {}, number(column[t]))))))));
    }
  }
}

async function tokenView(root, data) {
  const answers = await Promise.all(data.answers.map(openAnswer));
  new TokenView(root, data, answers);
}
