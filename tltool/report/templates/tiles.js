// Thumbnails out of sprite sheets, as elements with a text alternative. Sheets are made files of
// the page's own, so that a style names them in a few letters.
const sheetAddresses = new Map();
function sheetAddress(data) {
  if (!sheetAddresses.has(data)) {
    const bytes = Uint8Array.from(atob(data.slice(data.indexOf(",") + 1)), (c) => c.charCodeAt(0));
    sheetAddresses.set(data, URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
  }
  return sheetAddresses.get(data);
}
function tile(sprites, number, text) {
  const { side, columns, perSheet, sheets } = sprites;
  const place = number % perSheet;
  const box = document.createElement("div");
  box.className = "tile";
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", text);
  box.title = text;
  box.style.width = box.style.height = side + "px";
  box.style.backgroundImage = `url(${sheetAddress(sheets[Math.floor(number / perSheet)])})`;
  box.style.backgroundPosition = `-${(place % columns) * side}px -${Math.floor(place / columns) * side}px`;
  return box;
}
