// The map: draws images where their features put them. Names only ever become text nodes.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const n = data.files.length;
  const missing = new Set(data.missing);
  const canvas = byId("map"), stage = byId("stage"), tip = byId("tip");
  const pen = canvas.getContext("2d");
  const count = new Intl.NumberFormat("en").format;

  // ---- small helpers -------------------------------------------------------------------------
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }
  const named = (text) => make("bdi", { textContent: text });
  const labelOf = (i) => data.labels[data.label[i]];
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // ---- thumbnails ----------------------------------------------------------------------------
  const { side, columns, perSheet } = data.sprites;
  const sheets = data.sprites.sheets.map((address) => {
    const sheet = new Image();
    sheet.addEventListener("load", () => redraw());
    sheet.src = address;
    return sheet;
  });
  function paint(on, i, x, y, size) {
    const sheet = sheets[Math.floor(i / perSheet)];
    if (missing.has(i) || !sheet || !sheet.complete || !sheet.naturalWidth) return;
    const at = i % perSheet;
    on.drawImage(sheet, at % columns * side, Math.floor(at / columns) * side, side, side, x, y, size, size);
  }
  function thumbnail(i) {
    const small = make("canvas", { width: side, height: side });
    small.setAttribute("aria-hidden", "true");
    const on = small.getContext("2d");
    on.fillStyle = "rgb(128, 128, 128)";
    on.fillRect(0, 0, side, side);
    const sheet = sheets[Math.floor(i / perSheet)];
    if (sheet && !sheet.complete) sheet.addEventListener("load", () => paint(on, i, 0, 0, side));
    paint(on, i, 0, 0, side);
    return small;
  }

  // ---- colours: of a lightness that can be told from a white page and from a dark one -----------
  const FEW = ["#3b82d6", "#d9701a", "#2f9a50", "#d8434e", "#8f62d0", "#9a6b3f", "#d45a9f", "#1793a5", "#8f8f1f", "#7d8794"];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let colours, ink, page, bad, warn;
  function colour() {
    const k = data.labels.length;
    colours = data.labels.map((_, c) =>
      k <= FEW.length ? FEW[c] : `hsl(${(c * 137.508) % 360} 62% ${dark.matches ? 60 : 43}%)`);
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    ink = read("--ink"), page = read("--page"), bad = `rgb(${read("--bad")})`, warn = `rgb(${read("--warn")})`;
    document.querySelectorAll(".swatch").forEach((swatch, c) => { swatch.style.background = colours[c]; });
    redraw();
  }

  // ---- where things are ------------------------------------------------------------------------
  const span = (axis) => data.points.reduce((most, point) => Math.max(most, point[axis]), 1e-3);
  const wide = span(0), high = span(1);
  const MARGIN = 28;
  const view = { x: wide / 2, y: high / 2, zoom: 1 };
  const closest = Math.max(8, 1.5 * Math.sqrt(n));
  let width = 1, height = 1;
  const unit = () => view.zoom * Math.min((width - 2 * MARGIN) / wide, (height - 2 * MARGIN) / high);
  const placeOf = (i) => [
    width / 2 + (data.points[i][0] - view.x) * unit(),
    height / 2 + (data.points[i][1] - view.y) * unit(),
  ];
  // side of a thumbnail: as large as images lie apart; 0 where that is too small to see
  function thumbnailSide() {
    const apart = 0.7 * unit() * Math.sqrt(wide * high / n);
    return apart < 18 || missing.size === n ? 0 : Math.min(apart, 72);
  }
  const dot = () => clamp(2.2 * Math.sqrt(view.zoom) * Math.sqrt(3000 / n), 2.5, 7);

  // buttons and keys zoom around the chosen image, if it can be seen
  function zoomHere(factor) {
    const at = chosen < 0 ? [-1, -1] : placeOf(chosen);
    zoomBy(factor, ...(isInside(...at) ? at : [width / 2, height / 2]));
  }
  const isInside = (x, y) => x >= 0 && y >= 0 && x <= width && y <= height;
  function zoomBy(factor, x, y) {
    const before = unit();
    const zoom = clamp(view.zoom * factor, 1, closest);
    if (zoom === view.zoom) return false;
    view.zoom = zoom;
    view.x += (x - width / 2) * (1 / before - 1 / unit());
    view.y += (y - height / 2) * (1 / before - 1 / unit());
    settle();
    return true;
  }
  function moveBy(x, y) {
    view.x -= x / unit(), view.y -= y / unit();
    settle();
  }
  function showWhole() {
    Object.assign(view, { x: wide / 2, y: high / 2, zoom: 1 });
    settle();
  }
  function settle() {
    view.x = clamp(view.x, 0, wide), view.y = clamp(view.y, 0, high);
    hover(-1);
    redraw();
  }

  // ---- what is shown ---------------------------------------------------------------------------
  const on = data.labels.map(() => true);
  let matches = null, pointedClass = -1, hovered = -1, chosen = -1, only = "";
  const isMistake = (i) => data.mistake[i] === 1;
  const isDoubted = (i) => data.suggested[i] >= 0;
  const isShown = (i) => i === chosen || (on[data.label[i]]
    && (only !== "mistake" || isMistake(i)) && (only !== "doubted" || isDoubted(i)));
  const isFaint = (i) => (matches !== null && !matches.has(i)) || (pointedClass >= 0 && data.label[i] !== pointedClass);
  // 3 and 2 are drawn last, outlined and never faint
  function rank(i) {
    if (i === chosen || i === hovered) return 3;
    if (chosen >= 0 && data.neighbours[chosen].includes(i)) return 2;
    return isMistake(i) || isDoubted(i) ? 1 : 0;
  }

  // ---- drawing ---------------------------------------------------------------------------------
  let waiting = false;
  function redraw() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }
  function draw() {
    waiting = false;
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) canvas.width = w, canvas.height = h;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const layers = [[], [], [], [], []]; // faint ones, then by rank
    for (let i = 0; i < n; i++) {
      if (isShown(i)) layers[rank(i) < 2 && isFaint(i) ? 0 : 1 + rank(i)].push(i);
    }
    const size = thumbnailSide(), radius = dot();
    layers.forEach((layer, l) => {
      pen.globalAlpha = l ? 1 : 0.15;
      if (l === 3 && chosen >= 0) joinNeighbours(layer);
      for (const i of layer) drawOne(i, size, radius, l >= 3);
    });
    pen.globalAlpha = 1;
  }
  function joinNeighbours(layer) {
    const from = placeOf(chosen);
    pen.strokeStyle = ink, pen.lineWidth = 1;
    pen.beginPath();
    for (const i of layer) pen.moveTo(...from), pen.lineTo(...placeOf(i));
    pen.stroke();
  }
  function drawOne(i, size, radius, marked) {
    const [x, y] = placeOf(i);
    const half = size ? size / 2 : radius;
    if (x < -half || y < -half || x > width + half || y > height + half) return;
    const own = colours[data.label[i]], line = i === chosen ? 4 : 2;
    if (size && !missing.has(i)) {
      paint(pen, i, x - half, y - half, size);
      pen.strokeStyle = own, pen.lineWidth = 2;
      pen.strokeRect(x - half, y - half, size, size);
      if (marked) outline(() => pen.strokeRect(x - half - 2, y - half - 2, size + 4, size + 4), ink, line);
    } else {
      pen.fillStyle = own;
      pen.beginPath(), pen.arc(x, y, radius, 0, 2 * Math.PI), pen.fill();
      if (marked) outline(() => circle(x, y, radius + 1.5), ink, line);
    }
    // a ring for a mistake, a diamond for a doubted label: around a dot, in the corners of a thumbnail
    const large = size ? clamp(size / 6, 4, 9) : radius + 3;
    const off = size ? half - large / 2 : 0;
    if (isMistake(i)) outline(() => circle(x + off, y - off, large), bad);
    if (isDoubted(i)) outline(() => diamond(x - off, y - off, large * 1.25), warn);
  }
  function outline(shape, stroke, line = 2) {
    pen.strokeStyle = page, pen.lineWidth = line + 2.5, shape();
    pen.strokeStyle = stroke, pen.lineWidth = line, shape();
  }
  function circle(x, y, r) { pen.beginPath(), pen.arc(x, y, r, 0, 2 * Math.PI), pen.stroke(); }
  function diamond(x, y, r) {
    pen.beginPath(), pen.moveTo(x, y - r), pen.lineTo(x + r, y), pen.lineTo(x, y + r), pen.lineTo(x - r, y);
    pen.closePath(), pen.stroke();
  }

  // ---- pointing --------------------------------------------------------------------------------
  function imageAt(x, y, slack) {
    const reach = Math.max(thumbnailSide() / 2, dot() + slack);
    let best = -1, least = Infinity;
    for (let i = 0; i < n; i++) {
      if (!isShown(i) || (rank(i) < 2 && isFaint(i))) continue;
      const [px, py] = placeOf(i);
      const off = Math.max(Math.abs(px - x), Math.abs(py - y));
      if (off <= reach && off < least) best = i, least = off;
    }
    return best;
  }
  const inStage = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  function hover(i, x, y) {
    if (i !== hovered) {
      hovered = i;
      if (i >= 0) tip.replaceChildren(thumbnail(i), facts(i));
      redraw();
    }
    tip.hidden = i < 0;
    canvas.style.cursor = i < 0 ? "" : "pointer";
    if (i < 0) return;
    const over = x + 16 + tip.offsetWidth > width, below = y + 16 + tip.offsetHeight > height;
    tip.style.left = `${Math.max(0, over ? x - 16 - tip.offsetWidth : x + 16)}px`;
    tip.style.top = `${Math.max(0, below ? height - tip.offsetHeight - 4 : y + 16)}px`;
  }

  const fingers = new Map();
  let dragged = false;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, inStage(event));
    dragged = fingers.size > 1;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = inStage(event), before = fingers.get(event.pointerId);
    if (!before) return event.pointerType === "mouse" && hover(imageAt(...now, 4), ...now);
    const moved = [now[0] - before[0], now[1] - before[1]];
    if (!dragged && Math.hypot(...moved) < 5) return undefined;
    dragged = true;
    if (fingers.size === 1) moveBy(...moved);
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = (at) => Math.max(1, Math.hypot(at[0] - other[0], at[1] - other[1]));
      moveBy(moved[0] / 2, moved[1] / 2);
      zoomBy(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    fingers.set(event.pointerId, now);
    return undefined;
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!fingers.delete(event.pointerId) || dragged) return;
    const mouse = event.pointerType === "mouse", at = inStage(event);
    const image = imageAt(...at, mouse ? 4 : 14);
    choose(image);
    if (!mouse) hover(image, ...at); // there is no hovering with a finger
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hover(-1));
  canvas.addEventListener("wheel", (event) => {
    const lines = event.deltaMode === 1 ? 16 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0015; // a pinch on a touchpad comes as a wheel with Ctrl
    // at its limits the page scrolls on
    if (zoomBy(Math.exp(-event.deltaY * lines * speed), ...inStage(event))) event.preventDefault();
  }, { passive: false });
  const KEYS = {
    "+": () => zoomHere(1.4), "=": () => zoomHere(1.4), "-": () => zoomHere(1 / 1.4), "0": showWhole,
    ArrowLeft: () => moveBy(60, 0), ArrowRight: () => moveBy(-60, 0),
    ArrowUp: () => moveBy(0, 60), ArrowDown: () => moveBy(0, -60),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  byId("closer").addEventListener("click", () => zoomHere(1.4));
  byId("farther").addEventListener("click", () => zoomHere(1 / 1.4));
  byId("whole").addEventListener("click", showWhole);

  // ---- in words --------------------------------------------------------------------------------
  function facts(i) {
    const list = make("dl");
    const add = (name, value) => list.append(make("dt", { textContent: name }), make("dd", {}, value));
    add("File", named(data.files[i]));
    add("Class", named(labelOf(i)));
    if (data.predicted[i] >= 0) add("Predicted", named(data.labels[data.predicted[i]]));
    if (data.split[i]) add("Split", data.split[i]);
    if (isMistake(i)) add("Mark", "test mistake");
    if (isDoubted(i)) add("Doubted", make("span", {}, "seems to be ", named(data.labels[data.suggested[i]])));
    if (missing.has(i)) add("Image", "no longer where it was");
    return list;
  }
  function buttons(list, images) {
    list.replaceChildren(...images.map((i) => {
      const words = make("span", {}, named(labelOf(i)), make("small", {}, named(data.files[i])));
      const button = make("button", { type: "button" }, thumbnail(i), words);
      button.addEventListener("click", () => choose(i, true));
      return make("li", {}, button);
    }));
  }
  // `called`: by a button, whose place in the page is then gone or far away
  function choose(i, called = false) {
    chosen = i;
    redraw();
    const panel = byId("chosen");
    if (i < 0) return panel.replaceChildren();
    const heading = make("h2", { textContent: "Chosen image", tabIndex: -1 });
    const near = make("ul", { className: "found" });
    buttons(near, data.neighbours[i]);
    panel.replaceChildren(heading, thumbnail(i), facts(i), make("h3", { textContent: "Nearest neighbours" }), near);
    if (!called) return undefined;
    if (!isInside(...placeOf(i))) [view.x, view.y] = data.points[i];
    heading.focus({ preventScroll: true });
    stage.scrollIntoView({ block: "nearest" });
    return undefined;
  }

  // ---- search ----------------------------------------------------------------------------------
  const MOST = 60;
  const plain = (text) => text.normalize("NFKC").toLowerCase();
  const texts = data.files.map((file, i) => `${plain(file)}\n${plain(labelOf(i))}`);
  const box = byId("search");
  function search() {
    const wanted = plain(box.value.trim());
    const found = [];
    if (wanted) texts.forEach((text, i) => { if (text.includes(wanted)) found.push(i); });
    matches = wanted ? new Set(found) : null;
    const more = found.length > MOST ? `, the first ${MOST} are listed` : "";
    byId("told").textContent = !wanted ? "" : found.length
      ? `${count(found.length)} of ${count(n)} images match${more}.` : "No file and no class matches.";
    buttons(byId("found"), found.slice(0, MOST));
    redraw();
    return found;
  }
  box.addEventListener("input", search);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") box.value = "", search();
    const found = event.key === "Enter" ? search() : [];
    if (found.length) choose(found[0], true);
  });

  // ---- classes and marks -------------------------------------------------------------------------
  const counts = data.labels.map(() => 0);
  for (const c of data.label) counts[c] += 1;
  const ticks = data.labels.map((label, c) => {
    const tick = make("input", { type: "checkbox", checked: true });
    const row = make("label", { title: label }, tick, make("span", { className: "swatch" }),
      named(label), make("span", { className: "soft", textContent: count(counts[c]) }));
    const point = (to) => () => { pointedClass = to; redraw(); };
    tick.addEventListener("change", () => { on[c] = tick.checked; redraw(); });
    row.addEventListener("pointerenter", point(c));
    row.addEventListener("pointerleave", point(-1));
    byId("classes").append(make("li", {}, row));
    return tick;
  });
  function tickAll(value) {
    ticks.forEach((tick, c) => { tick.checked = on[c] = value; });
    redraw();
  }
  byId("all").addEventListener("click", () => tickAll(true));
  byId("none").addEventListener("click", () => tickAll(false));
  byId("only")?.addEventListener("change", (event) => { only = event.target.value; redraw(); });
  for (const cell of document.querySelectorAll("[data-image]")) {
    const button = make("button", { type: "button", className: "name" }, ...cell.childNodes);
    button.addEventListener("click", () => choose(Number(cell.dataset.image), true));
    cell.append(button);
  }

  dark.addEventListener("change", colour);
  new ResizeObserver(() => {
    width = Math.max(1, canvas.clientWidth), height = Math.max(1, canvas.clientHeight);
    redraw();
  }).observe(canvas);
  colour();
})();
