// Curves of training runs: one line a method, the mean over its seeds, and below it
// the difference to the baseline, paired by seed, with Student's t interval.

const VGPOCurves = (() => {
  const MINUS = "\u2212";
  const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
  const MARKS = ["circle", "square", "triangle", "diamond", "cross"];
  const COLOURS = 6; // of curves.css
  const BANDS = 3; // most methods of which intervals are drawn at once
  const MARGIN = { left: 52, right: 12, top: 12, bottom: 34 };
  const HEIGHT = { curves: 260, differences: 200 };

  function number(value, digits = 3) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    const text = Math.abs(value).toFixed(digits);
    return value < 0 && Number(text) !== 0 ? MINUS + text : text;
  }

  const signed = (value, digits = 3) =>
    value === null || value === undefined
      ? "–" : (value < 0 ? "" : "+") + number(value, digits);

  // As many digits as tell values of this size apart.
  const digitsFor = (range) =>
    Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(range || 1))));

  function svg(name, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value != null) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  }

  // Round numbers between low and high, about as many as wanted.
  function ticks(low, high, wanted = 5) {
    const rough = (high - low) / wanted || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => power * m >= rough);
    const first = Math.ceil(low / step - 1e-9);
    const last = Math.floor(high / step + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  }

  // A line with gaps where there is no value.
  function path(points) {
    let pen = "M";
    return points.map(([x, y]) => {
      if (y === null) { pen = "M"; return ""; }
      const part = `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
      return part;
    }).join("");
  }

  function mark(kind, x, y, size = 3.5) {
    const s = size;
    const shapes = {
      square: `M${x - s} ${y - s}h${2 * s}v${2 * s}h${-2 * s}z`,
      triangle: `M${x} ${y - s}l${s} ${2 * s}h${-2 * s}z`,
      diamond: `M${x} ${y - s * 1.3}l${s * 1.3} ${s * 1.3}l${-s * 1.3} ${s * 1.3}l${-s * 1.3} ${-s * 1.3}z`,
      cross: `M${x - s} ${y - s}l${2 * s} ${2 * s}m0 ${-2 * s}l${-2 * s} ${2 * s}`,
    };
    if (kind === "circle") return svg("circle", { class: "vc-mark", cx: x, cy: y, r: s });
    return svg("path", { class: "vc-mark", d: shapes[kind] });
  }

  // -- numbers ------------------------------------------------------------------

  // Per step of a world, for each method: the smoothed value of each seed, their mean,
  // and the paired difference to the baseline with its interval.
  function series(runs, metric, window, baseline, quantiles) {
    const steps = [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
    const methods = [...new Set(runs.map((run) => run.method))];
    const smoothed = runs.map((run) => {
      const values = VGPOStatistics.smooth(run.values[metric], window);
      return new Map(run.steps.map((step, i) => [step, values[i]]));
    });
    const at = (method, step) => {
      const found = new Map();
      runs.forEach((run, i) => {
        const value = smoothed[i].get(step);
        if (run.method === method && value != null) found.set(run.seed, value);
      });
      return found;
    };
    const result = { steps, methods: {} };
    for (const method of methods) {
      const seeds = runs
        .map((run, i) => ({ seed: run.seed, method: run.method, values: smoothed[i] }))
        .filter((run) => run.method === method)
        .map(({ seed, values }) => ({
          seed, values: steps.map((step) => values.get(step) ?? null),
        }));
      const mean = [];
      const difference = [];
      for (const step of steps) {
        const mine = at(method, step);
        const all = [...mine.values()];
        mean.push(all.length ? all.reduce((a, b) => a + b, 0) / all.length : null);
        const theirs = at(baseline, step);
        const both = [...mine.keys()].filter((seed) => theirs.has(seed));
        difference.push(VGPOStatistics.tInterval(
          VGPOStatistics.pairedDifferences(
            both.map((seed) => mine.get(seed)), both.map((seed) => theirs.get(seed))
          ),
          quantiles
        ));
      }
      result.methods[method] = { seeds, mean, difference };
    }
    return result;
  }

  // -- the whole ----------------------------------------------------------------

  // Adds to `root` with the view of `data` (vgpo.explorer.curves.curves_data).
  function mount(root, data) {
    const look = {}; // of each method, in all worlds
    data.methods.forEach((method, i) => {
      look[method] = {
        colour: `var(--series-${i % COLOURS})`,
        dash: DASHES[i % DASHES.length],
        mark: MARKS[i % MARKS.length],
      };
    });
    const state = {
      world: 0,
      metric: Object.keys(data.metrics)[0],
      window: 5,
      seeds: false,
      shown: new Set(data.shown),
      at: null, // index of the step that is pointed at
    };
    let current = null; // what series() returned

    const select = (label, options, changed) => {
      const input = element("select", { onchange: () => changed(input.value) },
        ...options.map(([value, text]) => element("option", { value }, text)));
      return element("label", {}, label, input);
    };
    const world = select("world",
      data.worlds.map(({ name }, i) => [i, name]),
      (value) => { state.world = Number(value); state.at = null; enter(); redraw(); });
    world.hidden = data.worlds.length < 2;
    const metric = select("measure", Object.entries(data.metrics),
      (value) => { state.metric = value; redraw(); });
    const shownWindow = element("output", {}, String(state.window));
    const smoothing = element("input", {
      type: "range", min: 1, max: 21, step: 2, value: state.window,
      oninput: () => {
        state.window = Number(smoothing.value);
        shownWindow.textContent = smoothing.value;
        redraw();
      },
    });
    const seeds = element("input", {
      type: "checkbox", onchange: () => { state.seeds = seeds.checked; redraw(); },
    });

    const arms = element("fieldset", { class: "vc-arms" });
    const curves = element("div", { class: "vc-chart" });
    const differences = element("div", { class: "vc-chart" });
    const titles = [element("p", { class: "vc-title" }), element("p", { class: "vc-title" })];
    const readout = element("div", { class: "vc-readout", "aria-live": "polite" });
    const table = element("div", { class: "vc-table" });

    const present = () => data.worlds[state.world].runs.map((run) => run.method);
    const shown = () =>
      data.methods.filter((m) => state.shown.has(m) && present().includes(m));

    // In another world there are other methods and measures: some are to be seen.
    function enter() {
      const there = data.methods.filter((method) => present().includes(method));
      if (shown().length < 2) there.slice(0, 3).forEach((m) => state.shown.add(m));
      const logged = (name) => data.worlds[state.world].runs.some((run) =>
        run.values[name].some((value) => value !== null));
      for (const option of metric.querySelectorAll("option")) {
        option.disabled = !logged(option.value);
      }
      if (!logged(state.metric)) {
        state.metric = Object.keys(data.metrics).find(logged) ?? state.metric;
        metric.querySelector("select").value = state.metric;
      }
    }

    function listArms() {
      arms.replaceChildren(
        element("legend", {}, "methods"),
        ...data.methods.filter((m) => present().includes(m)).map((method) => {
          const box = element("input", {
            type: "checkbox", value: method, checked: state.shown.has(method),
            onchange: () => {
              if (box.checked) state.shown.add(method);
              else state.shown.delete(method);
              redraw();
            },
          });
          const { colour, dash } = look[method];
          const sample = svg("svg", { width: 34, height: 12, "aria-hidden": "true", style: `--c:${colour}` },
            svg("path", { class: "vc-line", d: "M1 6H33", "stroke-dasharray": dash }),
            mark(look[method].mark, 17, 6));
          const name = method === data.baseline ? `${method} (baseline)` : method;
          return element("label", {}, box, sample, name);
        })
      );
    }

    function redraw() {
      current = series(
        data.worlds[state.world].runs, state.metric, state.window,
        data.baseline, data.quantiles
      );
      listArms();
      draw();
      describe();
      compare();
    }

    function draw() {
      const width = Math.max(300, root.clientWidth || 700);
      const label = data.metrics[state.metric];
      titles[0].textContent = `${label}, mean over seeds`;
      titles[1].textContent =
        `difference to ${data.baseline}, paired by seed` +
        (intervals().length ? ", with its 95\u00a0% interval" :
          shown().length > 1 ? ` (intervals are drawn for up to ${BANDS} methods)` : "");
      curves.replaceChildren(chart(width, HEIGHT.curves, label, (method) => {
        const { mean, seeds: runs } = current.methods[method];
        return { line: mean, thin: state.seeds ? runs.map((run) => run.values) : [] };
      }, shown()));
      const others = shown().filter((method) => method !== data.baseline);
      differences.replaceChildren(chart(width, HEIGHT.differences, titles[1].textContent, (method) => {
        const { difference } = current.methods[method];
        const banded = intervals().includes(method);
        return {
          line: difference.map(([mean]) => mean),
          thin: [],
          band: banded ? difference.map(([, low, high]) => [low, high]) : null,
        };
      }, others, true));
    }

    const intervals = () => {
      const others = shown().filter((method) => method !== data.baseline);
      return others.length <= BANDS ? others : [];
    };

    // A chart of `lines(method)` for the methods named; `zero`: with a line at 0.
    function chart(width, height, label, lines, methods, zero = false) {
      const drawn = methods.map((method) => ({ method, ...lines(method) }));
      const values = drawn
        .flatMap(({ line, thin, band }) => [line, ...thin, band ? band.flat() : []])
        .flat()
        .filter((v) => v !== null);
      if (zero) values.push(0);
      let low = values.reduce((a, b) => Math.min(a, b), Infinity);
      let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
      if (!values.length || low === high) [low, high] = [(values[0] ?? 0) - 0.5, (values[0] ?? 0) + 0.5];
      const pad = (high - low) * 0.05;
      [low, high] = [low - pad, high + pad];
      const { steps } = current;
      const [first, last] = [steps[0], steps[steps.length - 1]];
      const x = (step) => MARGIN.left +
        ((step - first) / (last - first || 1)) * (width - MARGIN.left - MARGIN.right);
      const y = (value) => height - MARGIN.bottom -
        ((value - low) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);
      const Y = (value) => (value === null ? null : y(value));
      const digits = digitsFor(high - low);
      const parts = [];
      for (const tick of ticks(low, high)) {
        parts.push(
          svg("path", { class: "vc-grid", d: `M${MARGIN.left} ${y(tick)}H${width - MARGIN.right}` }),
          svg("text", { class: "vc-tick", x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" },
            number(tick, Math.max(0, digits - 1)))
        );
      }
      for (const tick of ticks(first, last, Math.min(8, width / 80)).filter(Number.isInteger)) {
        parts.push(svg("text", { class: "vc-tick", x: x(tick), y: height - MARGIN.bottom + 18, "text-anchor": "middle" }, String(tick)));
      }
      parts.push(svg("text", { class: "vc-tick", x: width - MARGIN.right, y: height - 4, "text-anchor": "end" }, "step"));
      if (zero) parts.push(svg("path", { class: "vc-zero", d: `M${MARGIN.left} ${y(0)}H${width - MARGIN.right}` }));
      const every = Math.max(1, Math.round(steps.length / 8));
      drawn.forEach(({ method, line, thin, band }, k) => {
        const { colour, dash, mark: kind } = look[method];
        const group = svg("g", { class: "vc-series", "data-method": method, style: `--c:${colour}` });
        if (band) {
          // Where there is no interval there is no ground.
          const some = steps.map((s, i) => [s, ...band[i]]).filter(([, a]) => a !== null);
          if (some.length) {
            const edge = some.map(([s, a]) => [x(s), y(a)])
              .concat(some.reverse().map(([s, , b]) => [x(s), y(b)]));
            group.append(svg("path", { class: "vc-band", d: `${path(edge)}Z` }));
          }
        }
        for (const values of thin) {
          group.append(svg("path", { class: "vc-thin", d: path(steps.map((s, i) => [x(s), Y(values[i])])), "stroke-dasharray": dash }));
        }
        group.append(svg("path", { class: "vc-line", d: path(steps.map((s, i) => [x(s), Y(line[i])])), "stroke-dasharray": dash }));
        // Marks of different methods stand at different steps.
        steps.forEach((s, i) => {
          if (i % every === k % every && line[i] !== null) group.append(mark(kind, x(s), y(line[i])));
        });
        parts.push(group);
      });
      if (state.at !== null) {
        parts.push(svg("path", { class: "vc-rule", d: `M${x(steps[state.at])} ${MARGIN.top}V${height - MARGIN.bottom}` }));
      }
      const figure = svg("svg", {
        viewBox: `0 0 ${width} ${height}`, width: "100%", height, role: "img",
        tabindex: 0, "aria-label": `${label}; arrow keys move from step to step`,
        [OWN_KEYS]: "",
      }, ...parts);
      figure.addEventListener("pointermove", (event) => {
        const box = figure.getBoundingClientRect();
        const place = ((event.clientX - box.left) / box.width) * width;
        let near = 0;
        steps.forEach((s, i) => {
          if (Math.abs(x(s) - place) < Math.abs(x(steps[near]) - place)) near = i;
        });
        point(near);
      });
      figure.addEventListener("keydown", (event) => {
        const moves = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
        if (!(event.key in moves) || isChord(event)) return;
        event.preventDefault();
        const next = (state.at ?? -1) + moves[event.key];
        const which = figure.parentNode;
        point(Math.min(Math.max(next, 0), steps.length - 1));
        which.firstChild.focus();
      });
      return figure;
    }

    function point(index) {
      if (index === state.at) return;
      state.at = index;
      draw();
      describe();
    }

    function describe() {
      if (state.at === null || state.at >= current.steps.length) {
        readout.textContent = "Point at a chart to read its values.";
        return;
      }
      const digits = 3;
      const rows = shown().map((method) => {
        const { mean, seeds: runs, difference } = current.methods[method];
        const [d, low, high, n] = difference[state.at];
        const each = runs.map((run) => run.values[state.at]).filter((v) => v !== null);
        const ends = each.length > 1
          ? `${number(Math.min(...each), digits)} to ${number(Math.max(...each), digits)}` : "–";
        const interval = low === null ? "" : ` [${signed(low, digits)}, ${signed(high, digits)}]`;
        return [method, number(mean[state.at], digits), ends,
          method === data.baseline ? "" : `${signed(d, digits)}${interval}`,
          String(method === data.baseline ? each.length : n)];
      });
      readout.replaceChildren(
        element("p", {}, `Step ${current.steps[state.at]}`),
        tableOf(["method", "mean", "seeds from, to", `less ${data.baseline}`, "seeds"], rows)
      );
    }

    function tableOf(heads, rows) {
      return element("table", {},
        element("thead", {}, element("tr", {}, ...heads.map((h) => element("th", { scope: "col" }, h)))),
        element("tbody", {}, ...rows.map((row) => element("tr", {},
          ...row.map((cell, i) => i ? element("td", { "data-head": heads[i] }, cell) : element("th", { scope: "row" }, cell))))));
    }

    // What the package says of whole runs, with a dot for each seed.
    function compare() {
      const known = data.worlds[state.world].comparisons.filter(
        ({ metric }) => metric === null || metric === state.metric
      );
      const groups = known.map(({ label, rows }) => {
        const wanted = rows.filter(({ method }) => state.shown.has(method));
        if (!wanted.length) return "";
        const reach = wanted.reduce((most, row) => Math.max(most,
          ...Object.values(row.seeds).concat(row.low ?? 0, row.high ?? 0).map(Math.abs)), 0) || 1;
        const body = wanted.map((row) => [
          row.method, number(row.mean), forest(row, reach),
          `${signed(row.difference)}` + (row.low === null ? "" : ` [${signed(row.low)},\u00a0${signed(row.high)}]`),
          number(row.p), String(Object.keys(row.seeds).length), row.verdict,
        ]);
        return element("section", {}, element("h4", {}, label),
          tableOf(["method", "mean", `less ${data.baseline}, seed by seed`, "difference, 95\u00a0%", "p", "seeds", "verdict"], body));
      });
      table.replaceChildren(...groups);
    }

    function forest(row, reach) {
      const width = 150;
      const x = (value) => width / 2 + (value / reach) * (width / 2 - 6);
      const parts = [svg("path", { class: "vc-zero", d: `M${x(0)} 0V18` })];
      if (row.low !== null) parts.push(svg("path", { class: "vc-interval", d: `M${x(row.low)} 9H${x(row.high)}` }));
      for (const value of Object.values(row.seeds)) {
        parts.push(svg("circle", { class: "vc-seed", cx: x(value), cy: 9, r: 3 }));
      }
      parts.push(svg("path", { class: "vc-mean", d: `M${x(row.difference)} 2V16` }));
      const each = Object.entries(row.seeds).map(([seed, v]) => `seed ${seed}: ${signed(v)}`);
      return svg("svg", { width, height: 18, role: "img", "aria-label": each.join(", "), style: `--c:${look[row.method].colour}` },
        svg("title", {}, each.join(", ")), ...parts);
    }

    root.append(
      element("fieldset", { class: "vc-controls" },
        element("legend", {}, "what is drawn"),
        world, metric,
        element("label", {}, "running mean over steps ", shownWindow, smoothing),
        element("label", { class: "vc-check" }, seeds, " each seed")),
      arms, titles[0], curves, titles[1], differences, readout, table
    );
    enter();
    redraw();
    let width = root.clientWidth;
    new ResizeObserver(() => {
      if (root.clientWidth !== width) { width = root.clientWidth; draw(); }
    }).observe(root);
    root.vgpo = { state, redraw, point, results: () => current };
  }

  return { mount, series };
})();

const curvesView = VGPOCurves.mount;
