"use strict";
(() => {
  // Every text below is set through textContent: a completion is never parsed as HTML.
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = document.querySelectorAll("[data-records]").length > 1 ? 10 : 25;
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
  const tokensOf = (box, record) => {
    for (const [text, logprob] of record.tokens) {
      const token = withSigns(make("span", "t" + heat(logprob) + (text ? "" : " end")), text || "end");
      token.title = "log-probability " + logprob + " nats";
      box.append(token);
    }
    return box;
  };
  const completionOf = (record) => {
    const box = make("p", "text");
    if (record.completion) return withSigns(box, record.completion);
    box.append(make("span", "empty", record.outcome === "failure" ? "(none)" : "(empty)"));
    return box;
  };
  const cardOf = (record, texts) => {
    const card = make("li", "card " + record.outcome);
    const reward = record.reward === null ? "no reward" : "reward " + record.reward;
    card.append(withSigns(make("p", "meta"), `${record.id} · draw ${record.draw} · ${record.code} · ${reward}`));
    card.append(withSigns(make("p", "", ""), record.prompt));
    const coloured = record.tokens && record.tokens.length;
    if (!coloured || !texts) card.append(completionOf(record));
    if (coloured) card.append(tokensOf(make("p", "text"), record));
    const parsed = record.parsed ? ` · parsed ${record.parsed}` : "";
    card.append(withSigns(make("p", "meta"), `expected ${record.expected}${parsed} · ${record.message}`));
    return card;
  };

  const browsers = [...document.querySelectorAll("[data-records]")].map((root) => {
    const { shown: all, token_texts: texts } = data.records[Number(root.dataset.records)];
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
        ? `${from + 1} to ${Math.min(from + PAGE, kept.length)} of ${kept.length.toLocaleString("en")}` : "none match";
      root.querySelector("[data-step='-1']").disabled = page === 0;
      root.querySelector("[data-step='1']").disabled = from + PAGE >= kept.length;
      cards.replaceChildren(...kept.slice(from, from + PAGE).map((record) => cardOf(record, texts)));
    };
    root.addEventListener("input", () => { page = 0; show(); });
    root.addEventListener("submit", (event) => event.preventDefault());
    for (const button of root.querySelectorAll("[data-step]"))
      button.addEventListener("click", () => { page += Number(button.dataset.step); show(); });
    show();
    const choose = (code) => {
      field("code").value = code;
      field("outcome").value = "";
      field("text").value = "";
      page = 0;
      show();
      field("code").focus({ preventScroll: true });
    };
    return { root, choose };
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
    const table = event.target.closest(".table");
    const rows = [...table.querySelectorAll("tbody tr")];
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(text);
    table.querySelector("output").textContent = text ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  });

  // Charts: bands are two hidden lines with the space between them filled, whiskers are drawn on top of bars.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const INKS = () => ["--blue", "--red", "--green", "--soft", "--violet", "--amber"].map(colour);
  const MEANT = { correct: "--green", wrong: "--red", malformed: "--amber" };
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
          const [left, right] = [scale.getPixelForValue(low), scale.getPixelForValue(high)];
          ctx.save();
          // Paper under the ink, so that a whisker is seen on its bar too.
          for (const [ink, width] of [[colour("--paper"), 4], [colour("--ink"), 1.5]]) {
            ctx.strokeStyle = ink;
            ctx.lineWidth = width;
            ctx.beginPath();
            ctx.moveTo(left, bar.y);
            ctx.lineTo(right, bar.y);
            for (const end of [left, right]) {
              ctx.moveTo(end, bar.y - 4);
              ctx.lineTo(end, bar.y + 4);
            }
            ctx.stroke();
          }
          ctx.restore();
        });
      });
    },
  };
  const linesOf = (chart, inks) => chart.series.flatMap((series, number) => {
    const ink = inks[number % inks.length];
    const points = (values) => series.x.map((x, i) => ({ x, y: values[i] }));
    const line = {
      label: series.name, names: series.labels, data: points(series.y), borderColor: ink, backgroundColor: ink, borderWidth: 2,
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
    label: series.name, data: series.y, maxBarThickness: 22,
    backgroundColor: series.inks.length ? series.inks.map((one) => colour(MEANT[one])) : inks[number % inks.length],
    whiskers: series.low.length ? series.low.map((low, i) => [low, series.high[i]]) : null,
  }));
  // An axis of bars is as long as their whiskers.
  const whiskered = (chart) => {
    const ends = chart.series.flatMap((series) => [...series.low, ...series.high]).filter((end) => end !== null);
    return ends.length ? { suggestedMin: Math.min(...ends), suggestedMax: Math.max(...ends) } : {};
  };
  // A logarithmic axis of few whole numbers, such as draws, is marked at those and nowhere else.
  const marksOf = (chart) => {
    const marks = [...new Set(chart.series.flatMap((series) => series.x))].sort((a, b) => a - b);
    if (!marks.every(Number.isInteger) || marks.length > 40) return undefined;
    const few = marks.length > 12 ? marks.filter((one, i) => Number.isInteger(Math.log2(one)) || i === marks.length - 1) : marks;
    return (axis) => { axis.ticks = few.map((value) => ({ value })); };
  };
  // The numbers behind a chart, made when they are asked for: by point, a column for each series.
  const numbersOf = (chart) => {
    const table = make("table");
    const row = (tag, cells) => {
      const made = make("tr");
      cells.forEach((cell, i) => made.append(make(tag, i ? "number" : "", cell)));
      return made;
    };
    const said = (value) => (value === null || value === undefined ? "" : String(+Number(value).toPrecision(6)));
    const spread = chart.series.some((series) => series.low.length);
    const head = make("thead");
    head.append(row("th", [chart.kind === "bars" ? "" : chart.x_label || "x", "of", "value", ...(spread ? ["low", "high"] : [])]));
    const body = make("tbody");
    for (const series of chart.series)
      series.y.forEach((y, i) => {
        const at = chart.kind === "bars" ? chart.series[0].labels[i] : said(series.x[i]);
        const name = chart.kind !== "bars" && series.labels[i] ? `${series.name}: ${series.labels[i]}` : series.name;
        body.append(row("td", [at, name, said(y), ...(spread ? [said(series.low[i]), said(series.high[i])] : [])]));
      });
    table.append(head, body);
    return table;
  };
  document.querySelectorAll("details.numbers").forEach((details) =>
    details.addEventListener("toggle", () => {
      const chart = data.charts[Number(details.closest("figure").querySelector("canvas").dataset.chart)];
      details.querySelector(".wide").replaceChildren(...(details.open ? [numbersOf(chart)] : []));
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
            ? { x: { ...value, ...whiskered(chart), title: title(chart.y_label) }, y: { grid: { display: false } } }
            : { x: { type: chart.x_log ? "logarithmic" : "linear", title: title(chart.x_label), afterBuildTicks: chart.x_log ? marksOf(chart) : undefined,
                   beginAtZero: !chart.x_log, ticks: chart.x_log && !marksOf(chart) ? {} : { callback: (value) => +value.toPrecision(4) } }, y: { ...value, beginAtZero: chart.percent, title: title(chart.y_label) } },
          plugins: {
            legend: { display: chart.series.length > 1, labels: { usePointStyle: true, pointStyle: "rectRounded", boxHeight: 7, filter: (item, all) => !all.datasets[item.datasetIndex].band } },
            tooltip: { filter: (item) => !item.dataset.band, callbacks: {
              title: (items) => items.length && !bars ? `${chart.x_label || "x"}: ${+Number(items[0].parsed.x).toPrecision(4)}` : items[0]?.label ?? "",
              label: (item) => {
                const name = (item.dataset.names ?? [])[item.dataIndex];
                return `${item.dataset.label}${name ? ", " + name : ""}: ${percent(bars ? item.parsed.x : item.parsed.y)}`;
              },
            } },
          },
        },
        plugins: [whiskers],
      }));
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const sized = (event) => drawn.forEach((chart) => chart.resize(...(event.type === "beforeprint" ? [640, chart.config.type === "bar" ? chart.height : 240] : [])));
  // Paper cannot be pressed: folded parts are open on it.
  const folded = [...document.querySelectorAll("section > details:not([open])")];
  const unfold = (event) => folded.forEach((part) => { part.open = event.type === "beforeprint"; });
  for (const name of ["beforeprint", "afterprint"]) {
    addEventListener(name, sized);
    addEventListener(name, unfold);
  }
})();
