"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 640px)");

  // Charts take their font and ground from the page, which knows the reader's colour scheme.
  function dress(layout) {
    const page = getComputedStyle(document.documentElement);
    const read = (name) => page.getPropertyValue(name).trim();
    const annotations = (layout.annotations || []).map((annotation) =>
      annotation.name === "node" ? { ...annotation, bgcolor: read("--ground") } : annotation);
    return {
      ...layout,
      annotations,
      font: { family: read("--sans"), size: narrow.matches ? 11 : 13, color: read("--ink") },
      hoverlabel: {
        ...layout.hoverlabel,
        bgcolor: read("--ground"),
        bordercolor: read("--line-strong"),
        font: { family: read("--sans"), size: 13, color: read("--ink") },
      },
    };
  }

  // A heat map grows out of the page's ground: plotly then picks a legible colour for the numbers in it.
  function tint(trace) {
    if (trace.type !== "heatmap") return trace;
    const page = getComputedStyle(document.documentElement);
    const scale = [[0, page.getPropertyValue("--ground").trim()], [1, page.getPropertyValue("--heat").trim()]];
    return { ...trace, colorscale: scale, textfont: { size: narrow.matches ? 9 : 13 } };
  }

  const config = { responsive: true, displaylogo: false, displayModeBar: false };
  function draw() {
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById(`chart-${name}`);
      const layout = dress(figure.layout);
      if (layout.meta && layout.meta.min_width) place.style.minWidth = `${layout.meta.min_width}px`;
      Plotly.react(place, figure.data.map(tint), layout, config);
      const frame = place.parentElement;
      frame.scrollLeft = (frame.scrollWidth - frame.clientWidth) / 2;
    }
  }
  draw();
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
})();
