"use strict";
(() => {
  const data = JSON.parse(document.getElementById("predictions").textContent);
  const { labels, cells, images, sprites } = data;
  const k = labels.length;
  const missing = new Set(data.missing);
  const totals = new Array(k).fill(0), wrong = new Array(k).fill(0);
  for (const [t, p, n] of cells) { totals[t] += n; if (t !== p) { wrong[t] += n; wrong[p] += n; } }
  const svg = document.getElementById("matrix");
  const which = document.getElementById("which"), order = document.getElementById("order");
  const filter = document.getElementById("filter"), shown = document.getElementById("cell");
  const FEW = 25, CELL_IMAGES = 60;
  which.value = k > FEW ? "confused" : "all";
  const svgElement = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const short = (text) => { const all = Array.from(text); return all.length > 18 ? all.slice(0, 17).join("") + "…" : text; };
  const share = (t, n) => totals[t] ? n / totals[t] : 0;
  const recall = (t) => { const hit = cells.find(([a, b]) => a === t && b === t); return share(t, hit ? hit[2] : 0); };

  function chosenClasses() {
    let some = labels.map((_, i) => i);
    const wanted = filter.value.trim().toLowerCase();
    if (wanted) {
      const found = new Set(some.filter((i) => labels[i].toLowerCase().includes(wanted)));
      const beside = new Set(found);
      for (const [t, p] of cells) { if (found.has(t)) beside.add(p); if (found.has(p)) beside.add(t); }
      some = some.filter((i) => beside.has(i));
    } else if (which.value === "confused") {
      some = some.slice().sort((a, b) => wrong[b] - wrong[a] || a - b).slice(0, FEW).sort((a, b) => a - b);
    }
    if (order.value === "worst") some.sort((a, b) => recall(a) - recall(b) || a - b);
    return some;
  }

  function draw() {
    const some = chosenClasses(), n = some.length;
    const side = n <= 30 ? 32 : Math.max(7, Math.floor(900 / n)), named = side >= 11;
    const margin = named ? 140 : 8;
    const place = new Map(some.map((label, i) => [label, i]));
    const size = margin + side * n + (named ? 70 : 8);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${size} ${margin + side * n + 6}`);
    svg.setAttribute("width", size);
    svg.append(svgElement("rect", { class: "frame", x: margin, y: margin, width: side * n, height: side * n }));
    for (const [t, p, count] of cells) {
      if (!place.has(t) || !place.has(p)) continue;
      const x = margin + place.get(p) * side, y = margin + place.get(t) * side, part = share(t, count);
      const colour = t === p ? "--good" : "--bad";
      const text = `${labels[t]} named ${labels[p]}: ${count} (${Math.round(100 * part)} %)`;
      const box = svgElement("rect", { class: "cell", x, y, width: side, height: side, tabindex: svg.querySelector("rect.cell") ? -1 : 0, role: "button",
        "aria-label": text, "data-true": t, "data-named": p, fill: `rgba(var(${colour}), ${(0.12 + 0.88 * part).toFixed(2)})` });
      box.append(svgElement("title", {}, text));
      svg.append(box);
      if (side >= 20) svg.append(svgElement("text", { x: x + side / 2, y: y + side / 2 + 4, "text-anchor": "middle",
        "pointer-events": "none", style: part > 0.5 ? "fill: var(--page)" : "" }, count));
    }
    if (named) some.forEach((label, i) => {
      const middle = margin + i * side + side / 2 + 4;
      svg.append(svgElement("text", { x: margin - 6, y: middle, "text-anchor": "end" }, short(labels[label])));
      svg.append(svgElement("text", { transform: `translate(${middle} ${margin - 6}) rotate(-60)` }, short(labels[label])));
    });
    svg.hidden = n === 0;
  }

  function show(t, p) {
    for (const box of svg.querySelectorAll(".chosen")) box.classList.remove("chosen");
    const box = svg.querySelector(`[data-true="${t}"][data-named="${p}"]`);
    if (box) box.classList.add("chosen");
    const found = images.map((image, i) => [i, image]).filter(([, image]) => image[1] === t && image[2] === p);
    const title = document.createElement("h3");
    title.setAttribute("role", "status");
    title.textContent = t === p ? `${labels[t]}, named right: ${found.length}` : `${labels[t]} named ${labels[p]}: ${found.length}`;
    const list = document.createElement("ul");
    list.className = "tiles";
    for (const [i, [name, , , sure]] of found.slice(0, CELL_IMAGES)) {
      const item = document.createElement("li"), text = `${name}, ${Math.round(100 * sure)} %`;
      if (i < data.pictured && !missing.has(i)) item.append(tile(sprites, i, text));
      const caption = document.createElement("span");
      caption.textContent = text;
      item.append(caption);
      list.append(item);
    }
    shown.replaceChildren(title, list);
    if (found.length > CELL_IMAGES) {
      const more = document.createElement("p");
      more.className = "soft";
      more.textContent = `and ${found.length - CELL_IMAGES} more`;
      shown.append(more);
    }
  }

  const picked = (event) => event.target.closest("[data-true]");
  const open = (box) => show(Number(box.dataset.true), Number(box.dataset.named));
  svg.addEventListener("click", (event) => { const box = picked(event); if (box) open(box); });
  svg.addEventListener("keydown", (event) => {
    const box = picked(event);
    if (!box) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(box); }
    // one stop of the Tab key for all cells; arrows go from cell to cell
    const all = [...svg.querySelectorAll("rect.cell")], here = all.indexOf(box);
    const same = (name) => all.filter((other) => other.dataset[name] === box.dataset[name]);
    const by = (name, axis, way) => {
      const line = same(name).sort((a, b) => a.getAttribute(axis) - b.getAttribute(axis));
      return line[line.indexOf(box) + way];
    };
    const next = { ArrowRight: () => by("true", "x", 1), ArrowLeft: () => by("true", "x", -1),
      ArrowDown: () => by("named", "y", 1), ArrowUp: () => by("named", "y", -1),
      Home: () => all[0], End: () => all[all.length - 1] }[event.key];
    const to = next && here >= 0 ? next() : null;
    if (to) { event.preventDefault(); box.tabIndex = -1; to.tabIndex = 0; to.focus(); }
  });
  for (const button of document.querySelectorAll("button.show"))
    button.addEventListener("click", () => { open(button); shown.scrollIntoView({ block: "nearest" }); });
  for (const control of [which, order]) control.addEventListener("change", draw);
  filter.addEventListener("input", draw);
  draw();

  // Tables that a click on a heading sorts.
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    table.querySelectorAll("thead th").forEach((heading, column) => {
      const button = document.createElement("button");
      button.append(...heading.childNodes);
      heading.append(button);
      let up = false;
      button.addEventListener("click", () => {
        up = !up;
        const value = (row) => row.cells[column].textContent.trim();
        const compare = (a, b) => value(a).localeCompare(value(b), undefined, { numeric: true });
        body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * compare(a, b)));
        for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      });
    });
  }
})();
