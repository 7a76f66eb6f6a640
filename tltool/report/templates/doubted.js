"use strict";
(() => {
  const { labels, leftOut, name, rows } = JSON.parse(document.getElementById("data").textContent);
  const save = document.getElementById("save"), count = document.getElementById("count");
  const chosen = new Array(rows.length).fill("");
  const option = (value, text) => {
    const made = document.createElement("option");
    made.value = value;
    made.textContent = text;
    return made;
  };
  const quoted = (text) => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  for (const select of document.querySelectorAll("select[data-row]")) {
    const row = Number(select.dataset.row), [, given, suggested] = rows[row];
    select.append(option("", `right as it is (${given})`), option(suggested, suggested), option(leftOut, "leave the image out"));
    // all classes in every list would be millions of elements: they come when a list is wanted
    const fill = () => {
      select.removeEventListener("pointerdown", fill);
      select.removeEventListener("focus", fill);
      for (const label of labels) if (label !== given && label !== suggested) select.append(option(label, label));
    };
    select.addEventListener("pointerdown", fill);
    select.addEventListener("focus", fill);
    select.addEventListener("change", () => {
      chosen[row] = select.value;
      const n = chosen.filter(Boolean).length;
      count.textContent = n ? `${n} corrected` : "none yet";
    });
  }
  if (save) save.addEventListener("click", () => {
    const lines = ["file,label,suggested,correction"];
    rows.forEach((row, i) => lines.push([...row, chosen[i]].map(quoted).join(",")));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    link.download = name;
    link.click();
  });
})();
