"use strict";
(() => {
  // Every text below is set through textContent: a completion is never parsed as HTML.
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 25;
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const HIDDEN = /⟨U\+[0-9A-F]+⟩|[⏎⇥␍␀␛␡]/gu;
  const withSigns = (parent, text) => {
    let from = 0;
    for (const found of text.matchAll(HIDDEN)) {
      parent.append(text.slice(from, found.index), make("span", "hidden-sign", found[0]));
      from = found.index + found[0].length;
    }
    parent.append(text.slice(from));
    return parent;
  };
  const heat = (logprob) => (logprob > -0.05 ? 0 : logprob > -0.693 ? 1 : logprob > -2.303 ? 2 : logprob > -4.605 ? 3 : 4);
  const completionOf = (record) => {
    const box = make("p", "text");
    if (record.tokens && record.tokens.length) {
      for (const [text, logprob] of record.tokens) {
        const token = withSigns(make("span", "t" + heat(logprob) + (text ? "" : " end")), text || "end");
        token.title = "log-probability " + logprob + " nats";
        box.append(token);
      }
    } else if (record.completion) withSigns(box, record.completion);
    else box.append(make("span", "empty", record.outcome === "failure" ? "(none)" : "(empty)"));
    return box;
  };
  const cardOf = (record) => {
    const card = make("li", "card " + record.outcome);
    const reward = record.reward === null ? "no reward" : "reward " + record.reward;
    card.append(make("p", "meta", `${record.id} · draw ${record.draw} · ${record.code} · ${reward}`));
    card.append(withSigns(make("p", "", ""), record.prompt));
    card.append(completionOf(record));
    const parsed = record.parsed ? ` · parsed ${record.parsed}` : "";
    card.append(make("p", "meta", `expected ${record.expected}${parsed} · ${record.message}`));
    return card;
  };

  const browsers = [...document.querySelectorAll("[data-records]")].map((root) => {
    const all = data.records[Number(root.dataset.records)].shown;
    const field = (name) => root.querySelector(`[data-by=${name}]`);
    const output = root.querySelector("output");
    const cards = root.querySelector(".cards");
    let page = 0;
    for (const name of ["code", "outcome"])
      for (const value of [...new Set(all.map((record) => record[name]))].sort()) {
        const option = make("option", "", value);
        option.value = value;
        field(name).append(option);
      }
    root.querySelector(".legend").hidden = !all.some((record) => record.tokens);
    const show = () => {
      const text = field("text").value.toLowerCase();
      const kept = all.filter(
        (record) =>
          (!field("code").value || record.code === field("code").value) &&
          (!field("outcome").value || record.outcome === field("outcome").value) &&
          (!text || (record.id + "\n" + record.prompt + "\n" + record.completion).toLowerCase().includes(text)),
      );
      page = Math.max(0, Math.min(page, Math.ceil(kept.length / PAGE) - 1));
      const from = page * PAGE;
      output.textContent = kept.length
        ? `${from + 1} to ${Math.min(from + PAGE, kept.length)} of ${kept.length}` : "none match";
      root.querySelector("[data-step='-1']").disabled = page === 0;
      root.querySelector("[data-step='1']").disabled = from + PAGE >= kept.length;
      cards.replaceChildren(...kept.slice(from, from + PAGE).map(cardOf));
    };
    root.addEventListener("input", () => { page = 0; show(); });
    root.addEventListener("submit", (event) => event.preventDefault());
    for (const button of root.querySelectorAll("[data-step]"))
      button.addEventListener("click", () => { page += Number(button.dataset.step); show(); });
    show();
    return { root, choose: (code) => { field("code").value = code; field("outcome").value = ""; field("text").value = ""; page = 0; show(); } };
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-code]");
    if (!button || !browsers.length) return;
    // The records of the run that this table is about: the next browser on the page, else the last.
    const next = browsers.find(({ root }) => button.compareDocumentPosition(root) & Node.DOCUMENT_POSITION_FOLLOWING) || browsers.at(-1);
    next.choose(button.dataset.code);
    next.root.closest("section").scrollIntoView();
  });
  document.addEventListener("input", (event) => {
    if (!event.target.matches("[data-rows]")) return;
    const text = event.target.value.toLowerCase();
    for (const row of event.target.closest(".table").querySelectorAll("tbody tr"))
      row.hidden = !row.textContent.toLowerCase().includes(text);
  });

  // Charts: bands are two hidden lines with the space between them filled, whiskers are drawn on top of bars.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const INKS = () => [colour("--blue"), colour("--red"), colour("--green"), colour("--soft"), "#8a5fb0", "#b08a2a"];
  const faint = (ink) => `color-mix(in srgb, ${ink} 18%, transparent)`;
  const whiskers = {
    id: "whiskers",
    afterDatasetsDraw(chart) {
      const { ctx } = chart;
      chart.data.datasets.forEach((set, number) => {
        if (!set.whiskers) return;
        const scale = chart.scales.x;
        chart.getDatasetMeta(number).data.forEach((bar, i) => {
          const [low, high] = set.whiskers[i];
          if (low === null || high === null) return;
          ctx.save();
          ctx.strokeStyle = colour("--ink");
          ctx.lineWidth = 1.5;
          ctx.beginPath();
          ctx.moveTo(scale.getPixelForValue(low), bar.y);
          ctx.lineTo(scale.getPixelForValue(high), bar.y);
          ctx.stroke();
          ctx.restore();
        });
      });
    },
  };
  const linesOf = (chart, inks) => chart.series.flatMap((series, number) => {
    const ink = inks[number % inks.length];
    const points = (values) => series.x.map((x, i) => ({ x, y: values[i] }));
    const line = {
      label: series.name, data: points(series.y), borderColor: ink, backgroundColor: ink, borderWidth: 2,
      pointRadius: series.style === "points" ? 4 : series.x.length > 40 ? 0 : 2.5, showLine: series.style !== "points",
      borderDash: series.style === "dashed" ? [6, 4] : [], spanGaps: false,
    };
    if (!series.low.some((value) => value !== null)) return [line];
    const edge = { borderWidth: 0, pointRadius: 0, band: true };
    return [
      { ...edge, data: points(series.low), fill: false },
      { ...edge, data: points(series.high), fill: "-1", backgroundColor: faint(ink) },
      line,
    ];
  });
  const barsOf = (chart, inks) => chart.series.map((series, number) => ({
    label: series.name, data: series.y, backgroundColor: inks[number % inks.length], maxBarThickness: 22,
    whiskers: series.low.length ? series.low.map((low, i) => [low, series.high[i]]) : null,
  }));
  const drawn = [];
  const draw = () => {
    while (drawn.length) drawn.pop().destroy();
    Chart.defaults.color = colour("--soft");
    Chart.defaults.borderColor = colour("--rule");
    Chart.defaults.font.family = "system-ui, sans-serif";
    for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
      const chart = data.charts[Number(canvas.dataset.chart)];
      const bars = chart.kind === "bars";
      const percent = (value) => (chart.percent ? +(100 * value).toFixed(2) + " %" : +Number(value).toPrecision(4));
      const title = (text) => ({ display: Boolean(text), text });
      const value = { beginAtZero: true, ticks: { callback: percent } };
      if (bars) canvas.parentElement.style.height = 60 + Math.max(2, chart.series[0].labels.length) * (14 + 18 * chart.series.length) + "px";
      drawn.push(new Chart(canvas, {
        type: bars ? "bar" : "line",
        data: { labels: bars ? chart.series[0].labels : undefined, datasets: bars ? barsOf(chart, INKS()) : linesOf(chart, INKS()) },
        options: {
          animation: false, responsive: true, maintainAspectRatio: false, indexAxis: bars ? "y" : "x",
          interaction: { mode: "nearest", intersect: false },
          scales: bars
            ? { x: { ...value, title: title(chart.y_label) }, y: { grid: { display: false } } }
            : { x: { type: chart.x_log ? "logarithmic" : "linear", title: title(chart.x_label) }, y: { ...value, beginAtZero: chart.percent, title: title(chart.y_label) } },
          plugins: {
            legend: { display: chart.series.length > 1, labels: { filter: (item, all) => !all.datasets[item.datasetIndex].band } },
            tooltip: { filter: (item) => !item.dataset.band, callbacks: { label: (item) => `${item.dataset.label}: ${percent(bars ? item.parsed.x : item.parsed.y)}` } },
          },
        },
        plugins: [whiskers],
      }));
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const sized = (event) => drawn.forEach((chart) => chart.resize(...(event.type === "beforeprint" ? [640, 260] : [])));
  addEventListener("beforeprint", sized);
  addEventListener("afterprint", sized);
})();
