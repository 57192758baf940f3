"use strict";
(() => {
  const { charts, looks } = JSON.parse(document.getElementById("charts").textContent);
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  let run = 0;

  // One after another, from the top, so that the page can be read meanwhile; `run` ends an earlier pass.
  async function draw() {
    const mine = ++run;
    const name = darkness.matches ? "dark" : "light";
    document.documentElement.classList.toggle("dark", darkness.matches);
    for (const place of document.querySelectorAll(".chart")) {
      if (mine !== run) return;
      await vegaEmbed(place, charts[place.dataset.chart], {
        renderer: "svg",
        ast: true,
        config: looks[name],
        tooltip: { theme: name },
        downloadFileName: place.dataset.name,
        actions: { export: true, source: false, compiled: false, editor: false },
      });
      await new Promise((done) => setTimeout(done));
    }
    document.documentElement.classList.add("drawn");
  }

  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", () => {
      const code = button.parentElement.querySelector("code");
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
      button.textContent = "Copied";
    });
  }
  darkness.addEventListener("change", draw);
  draw();
})();
