// What every view uses. All of it stands inside one function of the view's own.

// What takes the keys. JupyterLab looks at the element that has the focus, and there
// alone, for whether a key is a command to the notebook: "x" would cut the cell.
const TAKES_KEYS = new Set(["button", "input", "select", "summary"]);
const OWN_KEYS = "data-lm-suppress-shortcuts";

// Chords stay the notebook's: Ctrl+S saves it, Shift+Enter runs the cell.
function isChord(event) {
  return event.ctrlKey || event.metaKey || event.altKey
    || (event.key === "Enter" && event.shiftKey);
}

// JupyterLab hears keys at the document, so the mark is off from the window to there and
// back. One listener does for all views of a page, and holds none of them.
function leaveChords() {
  if (window.vgpoLeavesChords) return;
  window.vgpoLeavesChords = true;
  window.addEventListener("keydown", (event) => {
    const { target } = event;
    if (!isChord(event) || !target.matches?.(`.vgpo-view [${OWN_KEYS}]`)) return;
    target.removeAttribute(OWN_KEYS);
    setTimeout(() => target.setAttribute(OWN_KEYS, ""));
  }, true);
}

// An element with attributes and children; text is set as text, never as HTML, so
// that a token such as "<img onerror=...>" is shown and not obeyed.
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  if (TAKES_KEYS.has(tag) || (attributes && "tabindex" in attributes)) {
    made.setAttribute(OWN_KEYS, "");
  }
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) {
      if (typeof value !== "function") throw new Error(`${name}: need a function`);
      made.addEventListener(name.slice(2), value);
    } else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children.flat().filter((child) => child !== null));
  return made;
}

// An id that nothing else on the page has; other views count on their own.
function uniqueId(word) {
  let id;
  do id = `vgpo-${word}-${Math.random().toString(36).slice(2, 10)}`;
  while (document.getElementById(id));
  return id;
}

const TYPED_ARRAYS = {
  uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, int32: Int32Array,
  float32: Float32Array,
};

// The array that vgpo.explorer.page.pack has packed: {values, shape}.
async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.deflate), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(
    new DecompressionStream("deflate")  // with zlib's header, as Python writes it
  );
  const buffer = await new Response(stream).arrayBuffer();
  return { values: new TYPED_ARRAYS[packed.type](buffer), shape: packed.shape };
}

// What the style variable --name is worth here, in the theme of the page. The colour
// is resolved by letting an element wear it: a variable alone may say light-dark(...).
function themeColour(root, name) {
  const probe = element("span", { style: `color: var(${name}); display: none` });
  root.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

// Calls back whenever the page or the system turns from light to dark or back, for as
// long as there is the view: a cell that is run again throws it away, while the page,
// which is watched, stays. So what watches holds it weakly, and ends with it.
const THEME_CALLS = new WeakMap();

function onThemeChange(root, callback) {
  THEME_CALLS.set(root, callback);
  watchTheme(new WeakRef(root), getComputedStyle(root).colorScheme);
}

// Its own function, since closures share what is in the scope they are made in.
function watchTheme(held, scheme) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let before = scheme + system.matches;
  const look = () => {
    const root = held.deref();
    if (!root) {
      system.removeEventListener("change", look);
      observer.disconnect();
      return;
    }
    const now = getComputedStyle(root).colorScheme + system.matches;
    // Out of the page, as a notebook takes cells out of sight, it has no scheme.
    if (now === before || !root.isConnected) return;
    before = now;
    THEME_CALLS.get(root)();
  };
  const observer = new MutationObserver(look);
  system.addEventListener("change", look);
  for (const place of [document.documentElement, document.body]) {
    observer.observe(place, { attributes: true });
  }
}

// For views whose body says it all.
function showNothing() {}

// Starts the view in each of its places that has not been started yet. A notebook may
// show one view twice, and runs its script once for each.
function startView(name, start) {
  leaveChords();
  const places = document.querySelectorAll(
    `[data-vgpo-view="${name}"]:not([data-vgpo-started])`
  );
  for (const root of places) {
    root.dataset.vgpoStarted = "";
    const data = root.querySelector(':scope > script[type="application/json"]');
    Promise.resolve()
      .then(() => start(root, JSON.parse(data.textContent)))
      .then(() => {
        if (start !== showNothing) root.classList.add("vgpo-live");
        root.dataset.vgpoReady = "";
      })
      .catch((error) => {
        // The body stays in sight.
        root.dataset.vgpoFailed = String(error);
        console.error(error);
      });
  }
}
