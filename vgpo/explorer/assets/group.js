// One group of rollouts under VGPO: words tinted by what they gain, settings that
// recompute everything in the page, and the formulas of one token with its numbers.

const VGPOGroup = (() => {
  const MINUS = "\u2212";
  const CONTEXT = 4; // tokens before one in a list, to know it by
  const LISTED = 5;

  // What words can be tinted by. "change" is what the method adds to GRPO.
  const MEASURES = {
    change: {
      label: "change of the advantage",
      signed: true,
      at: (all, i, t) => all.shaped[i][t] - all.advantages[i],
      limit: (all) => largest(all.advantages),
    },
    factor: {
      label: "factor (1 + ψ)(1 + φ) less 1",
      signed: true,
      at: (all, i, t) => (1 + all.rows[i].psi[t]) * (1 + all.phi[i]) - 1,
      limit: () => 1,
    },
    advantage: {
      label: "advantage of the token",
      signed: true,
      at: (all, i, t) => all.shaped[i][t],
      limit: (all) => 2 * largest(all.advantages),
    },
    psi: {
      label: "ψ, within the rollout",
      signed: true,
      at: (all, i, t) => all.rows[i].psi[t],
      limit: () => 1,
    },
    weight: {
      label: "compensated weight w",
      signed: false,
      at: (all, i, t) => all.rows[i].w[t],
      limit: (all) => largest(all.rows.flatMap((row) => row.w)),
    },
    focus: {
      label: "focus score ρ",
      signed: false,
      at: (all, i, t) => all.rows[i].rho[t],
      limit: (all) => largest(all.rows.flatMap((row) => row.rho)),
    },
  };

  const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
  const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
  const largest = (values) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);

  // Pearson's; null where one side does not vary.
  function correlation(x, y) {
    const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
    const [mx, my] = [mean(x), mean(y)];
    const product = (a, ma, b, mb) => a.reduce((t, v, k) => t + (v - ma) * (b[k] - mb), 0);
    const scale = Math.sqrt(product(x, mx, x, mx) * product(y, my, y, my));
    return scale > 1e-12 ? product(x, mx, y, my) / scale : null;
  }

  function number(value, digits = 3) {
    const text = Math.abs(value).toFixed(digits);
    return value < 0 && Number(text) !== 0 ? MINUS + text : text;
  }

  const signed = (value, digits = 3) =>
    (value < 0 ? "" : "+") + number(value, digits);

  // A token as a word in a sentence: quoted, its line breaks visible.
  const quoted = (token) => `“${token.trim().replaceAll("\n", "⏎") || "␣"}”`;

  // -- the page's parts ---------------------------------------------------------

  function slider(label, name, [low, high, step], settings, changed) {
    const shown = element("output", {}, settings[name].toFixed(2));
    const input = element("input", {
      type: "range", min: low, max: high, step, value: settings[name], name,
      oninput: () => {
        settings[name] = Number(input.value);
        shown.textContent = settings[name].toFixed(2);
        changed();
      },
    });
    const set = () => {
      input.value = settings[name];
      shown.textContent = settings[name].toFixed(2);
    };
    return { node: element("label", {}, label, " ", shown, input), set, input };
  }

  function choice(label, name, options, settings, changed) {
    const input = element(
      "select",
      { name, onchange: () => { settings[name] = input.value; changed(); } },
      ...Object.entries(options).map(([value, text]) =>
        element("option", { value }, text)
      )
    );
    const set = () => { input.value = settings[name]; };
    set();
    return { node: element("label", {}, label, input), set, input };
  }

  function toggle(label, name, settings, changed) {
    const input = element("input", {
      type: "checkbox", name,
      onchange: () => { settings[name] = input.checked; changed(); },
    });
    const set = () => { input.checked = settings[name]; };
    set();
    return { node: element("label", { class: "vg-check" }, input, " ", label), set, input };
  }

  // -- one token, step by step --------------------------------------------------

  // [equation, formula, the same with its numbers] for token t of rollout i.
  function steps(all, i, t, settings, rewards) {
    const row = all.rows[i];
    const released = settings.variant === "released";
    const length = row.rho.length;
    const n = (value) => number(value);
    const tail = row.tail.filter(Boolean).length;
    const kept = row.open.filter(Boolean).length;
    const place = released ? "t/(T−1), from 0" : "t/T";
    const shape = { linear: place, exponential: `(${place})²`, step: `1[${place} ≥ ½]` };
    const [low, high] = [least(row.w), most(row.w)];
    const compared = all.s.filter((_, k) => released || all.counted[k]);
    const [lowest, highest] = [least(compared), most(compared)];
    const gate = row.open[t]
      ? `open: one of the ${kept} highest of the last ${tail}`
      : row.tail[t]
        ? `shut: in the tail, not among its ${kept} highest`
        : `shut: not among the last ${tail} of ${length} tokens`;
    const lines = [];
    if (rewards) {
      lines.push(["Eq. 2", "Â = (R − mean R) / (std R + 0.0001)",
        `R = ${rewards[i]}, Â = ${signed(all.advantages[i])}`]);
    } else {
      lines.push(["Eq. 2", "Â, of the rollout", signed(all.advantages[i])]);
    }
    lines.push(["Eq. 4", "ρ", n(row.rho[t])]);
    if (released) {
      lines.push(["", "ρ, stretched over the batch", n(row.focus[t])]);
    }
    lines.push(["Eq. 6", "gate G", gate]);
    lines.push(["Eq. 5", `w = ρ [1 + G β ${shape[settings.schedule]}]`,
      `${n(row.focus[t])} × [1 + ${Number(row.open[t])} × ${settings.strength.toFixed(2)}` +
      ` × ${n(row.progress[t])}] = ${n(row.w[t])}`]);
    if (settings.intra) {
      lines.push(["Eq. 7", "ŵ = (w − min) / (max − min)",
        high > low
          ? `(${n(row.w[t])} − ${n(low)}) / (${n(high)} − ${n(low)}) = ${n(row.wHat[t])}`
          : `all weights are equal: ${n(row.wHat[t])}`]);
      lines.push(["Eq. 8", released ? "ψ = ŵ − mean ŵ, 1 + ψ kept in [0.1, 2]" : "ψ = ŵ − mean ŵ",
        `${n(row.wHat[t])} − ${n(row.mean)} → ${signed(row.psi[t])}`]);
    } else {
      lines.push(["Eq. 7–8", "ψ", "switched off: 0"]);
    }
    if (settings.inter) {
      const what = released
        ? "s = Σ ŵ"
        : settings.accumulation === "mean" ? "s = Σ w / T" : "s = Σ w";
      lines.push(["Eq. 9", what, n(all.s[i])]);
      lines.push(["Eq. 10", "ŝ = (s − min) / (max − min)",
        highest > lowest
          ? `(${n(all.s[i])} − ${n(lowest)}) / (${n(highest)} − ${n(lowest)}) = ${n(all.sHat[i])}`
          : `all rollouts have the same: ${n(all.sHat[i])}`]);
      lines.push(["Eq. 11", released ? "φ = ŝ − mean ŝ, 1 + φ kept in [0.9, 2]" : "φ = ŝ − mean ŝ",
        all.counted[i]
          ? `${n(all.sHat[i])} − ${n(all.sMean)} → ${signed(all.phi[i])}`
          : "no image: 0"]);
    } else {
      lines.push(["Eq. 9–11", "φ", "switched off: 0"]);
    }
    lines.push(["Eq. 12", "Âⱽ = Â (1 + ψ)(1 + φ)",
      `${n(all.advantages[i])} × ${n(1 + row.psi[t])} × ${n(1 + all.phi[i])} = ` +
      signed(all.shaped[i][t])]);
    return lines;
  }

  // What the rollouts answer.
  function asked({ question, answer, picture }) {
    const shown = element("div", { class: "vg-asked" });
    if (picture) {
      const name = "the picture that is asked about";
      shown.append(element("img", { src: picture, alt: name, width: 112 }));
    }
    const text = element("p", {}, question);
    if (answer) text.append(" ", element("strong", {}, `→ ${answer}`));
    shown.append(text);
    return shown;
  }

  // -- the whole ----------------------------------------------------------------

  // Adds to `root` the view of `data` (vgpo.explorer.group.group_data).
  function mount(root, data) {
    const settings = { ...data.settings };
    let tint = data.tint;
    let rewards = data.rewards.slice();
    let chosen = null; // [rollout, token] locked by a click or a key
    let all = null; // what VGPOMethod.shape returned
    let effective = settings; // as computed with: the released code allows less

    const known = data.rollouts.some((rollout) => rollout.reads);
    const redraw = () => { compute(); paint(); };

    const controls = [
      slider("β, strength", "strength", [0, 2, 0.05], settings, redraw),
      slider("γ, share that is tail", "tail_ratio", [0, 1, 0.05], settings, redraw),
      slider("κ, share of the tail that is lifted", "top_ratio", [0.05, 1, 0.05], settings, redraw),
      choice("schedule", "schedule",
        { linear: "linear, t/T", exponential: "exponential, (t/T)²", step: "step at ½" },
        settings, redraw),
      choice("state that scores token t", "alignment",
        { token: "at t, having read it", prediction: "at t − 1, about to write it" },
        settings, redraw),
      choice("a rollout's weights", "accumulation",
        { sum: "summed (Eq. 9)", mean: "averaged" }, settings, redraw),
      choice("formulas", "variant",
        { paper: "of the paper", released: "of the released code" }, settings, redraw),
      toggle("ψ within", "intra", settings, redraw),
      toggle("φ between", "inter", settings, redraw),
    ];
    const control = Object.fromEntries(controls.map((c) => [c.input.name, c]));
    if (!data.rollouts.every((rollout) => rollout.focus_prediction)) {
      control.alignment.node.hidden = true;
    }
    const measure = element(
      "select",
      { name: "tint", onchange: () => { tint = measure.value; paint(); } },
      ...Object.entries(MEASURES).map(([value, { label }]) =>
        element("option", { value }, label)
      )
    );
    measure.value = tint;
    const reset = element("button", {
      type: "button",
      onclick: () => {
        Object.assign(settings, data.settings);
        rewards = data.rewards.slice();
        controls.forEach((c) => c.set());
        redraw();
      },
    }, "start values");

    const legend = element("p", { class: "vg-legend" });
    const summary = element("p", { class: "vg-summary", "aria-live": "polite" });
    const readout = element("p", { class: "vg-readout", "aria-live": "polite" });
    const working = element("div", { class: "vg-working" });
    const lists = element("div", { class: "vg-lists" });

    // -- words

    const words = []; // words[i][t], the element of a token
    const heads = []; // parts of a rollout's heading that change
    const rollouts = data.rollouts.map((rollout, i) => {
      const verdict = data.advantages
        ? element("span", { class: "vg-verdict" })
        : element("button", {
            type: "button", class: "vg-verdict",
            title: "what if it were judged the other way?",
            onclick: () => { rewards[i] = rewards[i] > 0 ? 0 : 1; redraw(); },
          });
      const numbers = element("span", { class: "vg-numbers" });
      heads.push({ verdict, numbers });
      const text = element("p", { class: "vg-text" });
      words.push(rollout.tokens.map((token, t) => {
        // Space before a word stays outside its frame, where lines break.
        const shown = token.trimStart();
        const word = element("span", {
          class: "vg-word" + (rollout.reads?.[t] ? " vg-reads" : ""),
          tabindex: -1, "data-place": `${i},${t}`,
        }, shown.replaceAll("\n", "⏎\n") || (token.includes("\n") ? "⏎" : "␣"));
        text.append(token.slice(0, token.length - shown.length), word);
        return word;
      }));
      return element("li", {},
        element("p", { class: "vg-head" }, `${i + 1}. `, verdict, " ", numbers),
        text
      );
    });
    const list = element("ol", {
      class: "vg-rollouts", role: "group",
      "aria-label": "rollouts; arrow keys move from word to word",
      onpointerover: (event) => {
        const place = placeOf(event.target);
        if (place) describe(place);
      },
      onpointerleave: () => describe(chosen),
      onclick: (event) => {
        const place = placeOf(event.target);
        if (place) choose(place, false);
      },
      onfocusin: (event) => {
        const place = placeOf(event.target);
        if (place) describe(place);
      },
      onkeydown: moved,
    }, ...rollouts);
    const first = words.find((row) => row.length)?.[0];
    if (first) first.tabIndex = 0;

    function placeOf(node) {
      const place = node.closest?.("[data-place]")?.dataset.place;
      return place ? place.split(",").map(Number) : null;
    }

    function choose([i, t], focus) {
      list.querySelector(".vg-chosen")?.classList.remove("vg-chosen");
      list.querySelectorAll("[tabindex='0'].vg-word").forEach((w) => { w.tabIndex = -1; });
      const word = words[i][t];
      word.classList.add("vg-chosen");
      word.tabIndex = 0;
      if (focus) word.focus();
      chosen = [i, t];
      describe(chosen);
    }

    function moved(event) {
      const place = placeOf(event.target);
      if (!place || isChord(event)) return;
      let [i, t] = place;
      const full = words.map((_, k) => k).filter((k) => words[k].length);
      if (event.key === "ArrowRight") t += 1;
      else if (event.key === "ArrowLeft") t -= 1;
      else if (event.key === "ArrowDown") i = full[full.indexOf(i) + 1] ?? i;
      else if (event.key === "ArrowUp") i = full[full.indexOf(i) - 1] ?? i;
      else if (event.key === "Home") t = 0;
      else if (event.key === "End") t = words[i].length - 1;
      else if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose([i, Math.min(Math.max(t, 0), words[i].length - 1)], true);
    }

    // -- numbers

    function compute() {
      // The released code knows one alignment, one accumulation and no run with phi
      // alone: those controls show what is computed, and wait.
      const released = settings.variant === "released";
      effective = { ...settings };
      if (released) {
        effective.alignment = "token";
        effective.accumulation = "sum";
        effective.inter = settings.inter && settings.intra;
      }
      for (const name of ["alignment", "accumulation", "inter"]) {
        const { input } = control[name];
        input.disabled = released && (name !== "inter" || !settings.intra);
        if (name === "inter") input.checked = effective.inter;
        else input.value = effective[name];
      }
      const score = effective.alignment === "token" ? "focus" : "focus_prediction";
      all = VGPOMethod.shape(
        data.rollouts.map((rollout) => rollout[score]),
        data.advantages ?? VGPOMethod.groupAdvantages(rewards),
        effective
      );
    }

    function paint() {
      const { label, signed: both, at, limit } = MEASURES[tint];
      const scale = limit(all) || 1;
      words.forEach((row, i) => row.forEach((word, t) => {
        const value = at(all, i, t);
        const share = Math.min(Math.abs(value) / scale, 1);
        word.style.setProperty("--vg-share", `${Math.round(share * 65)}%`);
        word.classList.toggle("vg-less", both && value < 0);
        word.classList.toggle("vg-open", all.rows[i].open[t]);
        word.title = `${number(all.advantages[i])} → ${number(all.shaped[i][t])}`;
      }));
      heads.forEach(({ verdict, numbers }, i) => {
        const right = rewards[i] > 0;
        verdict.textContent = right ? "✓ right" : "✗ wrong";
        verdict.classList.toggle("vg-right", right);
        numbers.textContent =
          `Â ${signed(all.advantages[i], 2)} · φ ${signed(all.phi[i], 2)} · ` +
          `${words[i].length} tokens`;
      });
      legend.replaceChildren(...legendOf(label, both, scale));
      summary.textContent = summarise();
      lists.replaceChildren(
        ranking("Pushed up most", 1), ranking("Pushed down most", -1)
      );
      describe(chosen);
    }

    function legendOf(label, both, scale) {
      const swatch = (share, less) => {
        const node = element("span", { class: "vg-word" + (less ? " vg-less" : "") }, "word");
        node.style.setProperty("--vg-share", `${share}%`);
        return node;
      };
      const parts = [`Tint: ${label}. `];
      if (both) parts.push(swatch(65, true), ` ${number(-scale, 2)} `);
      parts.push(swatch(0, false), " 0 ", swatch(65, false), ` ${number(scale, 2)}. `);
      const open = element("span", { class: "vg-word vg-open" }, "word");
      parts.push(open, " gate open. ");
      if (known) {
        const reads = element("span", { class: "vg-word vg-reads" }, "word");
        parts.push(reads, " reads the picture, in truth.");
      }
      return parts;
    }

    // Mean factor of the tokens that pass `wanted(rollout, token)`, and their number.
    function meanFactor(wanted) {
      let [total, count] = [0, 0];
      all.rows.forEach((row, i) => row.psi.forEach((psi, t) => {
        if (!wanted(i, t)) return;
        total += (1 + psi) * (1 + all.phi[i]);
        count += 1;
      }));
      return [count ? total / count : NaN, count];
    }

    function summarise() {
      const open = all.rows.flatMap((row) => row.open).filter(Boolean).length;
      const r = correlation(
        all.rows.map((row) => row.rho.length).filter((_, i) => all.counted[i]),
        all.phi.filter((_, i) => all.counted[i])
      );
      const length = r === null ? "" :
        ` Correlation of φ with the length of the rollout: ${signed(r, 2)}.`;
      if (!known) return `The gate is open for ${open} tokens.${length}`;
      const reads = (i, t) => Boolean(data.rollouts[i].reads?.[t]);
      const [ofReads, count] = meanFactor(reads);
      const [ofOthers] = meanFactor((i, t) => !reads(i, t));
      const [, gated] = meanFactor((i, t) => reads(i, t) && all.rows[i].open[t]);
      const factor = (value) => (Number.isNaN(value) ? "none" : value.toFixed(2));
      return (
        `Mean factor of the ${count} tokens that read the picture: ` +
        `${factor(ofReads)}; of all others: ${factor(ofOthers)}. ` +
        `The gate is open for ${open} tokens, ${gated} of which read.${length}`
      );
    }

    function ranking(title, sign) {
      const changes = all.shaped.flatMap((row, i) =>
        row.map((value, t) => ({ i, t, change: value - all.advantages[i] }))
      );
      const top = changes
        .filter(({ change }) => change * sign > 0)
        .sort((a, b) => sign * (b.change - a.change))
        .slice(0, LISTED);
      const entries = top.map(({ i, t, change }) => {
        const before = data.rollouts[i].tokens.slice(Math.max(0, t - CONTEXT), t).join("");
        const button = element("button", {
          type: "button", class: "vg-entry",
          onclick: () => choose([i, t], true),
        },
          element("span", { class: "vg-context" }, before.replaceAll("\n", "⏎")),
          element("strong", {}, data.rollouts[i].tokens[t].replaceAll("\n", "⏎")),
          ` ${signed(change, 2)} `,
          element("span", { class: "vg-context" }, `(rollout ${i + 1})`)
        );
        return element("li", {}, button);
      });
      return element("section", {}, element("h4", {}, title),
        entries.length ? element("ol", {}, ...entries) : element("p", {}, "no token"));
    }

    function describe(place) {
      if (!place) {
        readout.textContent = "Point at a word, or click it to keep it.";
        working.replaceChildren();
        return;
      }
      const [i, t] = place;
      const row = all.rows[i];
      const rollout = data.rollouts[i];
      const note = rollout.notes?.[t];
      readout.textContent =
        `${quoted(rollout.tokens[t])}, token ${t + 1} of ${row.rho.length}` +
        `${note ? `, ${note}` : ""}: ρ ${number(row.rho[t])}, w ${number(row.w[t])}, ` +
        `ψ ${signed(row.psi[t])}, φ ${signed(all.phi[i])}; advantage ` +
        `${signed(all.advantages[i])} → ${signed(all.shaped[i][t])}`;
      const shown = steps(all, i, t, effective, data.advantages ? null : rewards);
      working.replaceChildren(
        element("h4", {}, `${quoted(rollout.tokens[t])} in rollout ${i + 1}, step by step`),
        element("table", {}, element("tbody", {}, ...shown.map(([equation, formula, value]) =>
          element("tr", {}, element("th", { scope: "row" }, equation),
            element("td", {}, formula), element("td", {}, value)))))
      );
    }

    if (data.question || data.picture) root.append(asked(data));
    root.append(
      element("fieldset", { class: "vg-controls" },
        element("legend", {}, "settings of VGPO"),
        ...controls.map((c) => c.node),
        element("label", {}, "tint of the words", measure), reset),
      legend, summary, list, readout,
      element("div", { class: "vg-below" }, working, lists)
    );
    redraw();
    if (data.chosen) choose(data.chosen, false);
    // For tests, and for whoever wants the numbers: the page's own results.
    root.vgpo = { settings, redraw, results: () => all, choose };
  }

  return { mount, correlation };
})();

const groupView = VGPOGroup.mount;
