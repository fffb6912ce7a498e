// The section "Right now": metrics and drift, asked for every two seconds while the page is seen.

import { drawCounts, drawPairs } from "./charts.js";
import { countRequests, parseMetrics, quantile, readDurations } from "./metrics.js";
import { send } from "./service.js";

const POLL_MILLISECONDS = 2000;

let timer = 0;

export function stopLive() {
  clearTimeout(timer);
}

function setText(id, text) {
  const element = document.querySelector(`#${id}`);
  if (element && element.textContent !== text) {
    element.textContent = text;
  }
}

/** Return seconds as text with two digits that count. */
export function asDuration(seconds) {
  if (seconds === null) {
    return "–";
  }
  const [value, unit] = seconds < 1 ? [1000 * seconds, "ms"] : [seconds, "s"];
  return `${Number(value.toPrecision(2))} ${unit}`; // toPrecision alone would write 2.1e+2
}

function asPercent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function showRequests(samples, previous) {
  const counts = { ...countRequests(samples), at: performance.now() };
  setText("requests", counts.all.toLocaleString("en"));
  setText("client-errors", counts.clientErrors.toLocaleString("en"));
  setText("server-errors", counts.serverErrors.toLocaleString("en"));
  if (previous) {
    const rate = (1000 * (counts.all - previous.all)) / (counts.at - previous.at);
    setText("rate", Math.max(0, rate).toFixed(1));
  }

  const durations = readDurations(samples);
  const median = asDuration(quantile(durations, 0.5));
  const p99 = asDuration(quantile(durations, 0.99));
  setText("median", median);
  setText("p99", p99);
  const chart = document.querySelector("#durations");
  drawCounts(chart, durations.counts);
  chart.setAttribute("aria-label", `Response times: median ${median}, 99th percentile ${p99}`);
  return counts;
}

function showDriftRow(row, column, bins) {
  const [, verdict, chart, index, critical] = row.children;
  const svg = chart.firstElementChild;
  drawPairs(svg, column.reference, column.live);
  const shares = bins.map((bin, i) => {
    return `${bin} ${asPercent(column.live[i])} (training ${asPercent(column.reference[i])})`;
  });
  svg.setAttribute("aria-label", shares.join(", "));
  index.textContent = column.psi === null ? "–" : column.psi.toFixed(3);
  critical.textContent = column.critical === null ? "–" : column.critical.toFixed(3);
  showVerdict(verdict, column.verdict);
}

function showVerdict(element, verdict) {
  if (element.textContent !== verdict) {
    element.textContent = verdict;
  }
  element.classList.toggle("is-drifting", verdict === "drifting");
  element.classList.toggle("is-quiet", verdict === "quiet");
}

function describeBins(column) {
  if (column.values) {
    return column.values;
  }
  return column.bins;
}

function showDrift(drift) {
  showVerdict(document.querySelector("#verdict"), drift.verdict);
  setText("rows-in-window", drift.rows.toLocaleString("en"));
  const predictions = drift.classes ?? drift.prediction;
  const columns = predictions ? [predictions, ...drift.features] : drift.features;
  const rows = document.querySelectorAll("#drift tbody tr");
  columns.forEach((column, index) => showDriftRow(rows[index], column, describeBins(column)));
}

function showFeedback(feedback) {
  if (!feedback) {
    return;
  }
  const isError = "mean_absolute_error" in feedback;
  const value = isError ? feedback.mean_absolute_error : feedback.accuracy;
  if (value !== null) {
    setText("quality", isError ? value.toPrecision(4) : asPercent(value));
    setText("feedback-rows", `${feedback.rows.toLocaleString("en")} rows`);
  }
}

function showConfusion(samples, classes, version) {
  const table = document.querySelector("#feedback");
  if (!table) {
    return;
  }
  const rows = table.querySelectorAll("tbody tr");
  for (const { labels, value } of samples.feedback_total ?? []) {
    if (labels.model_version !== version) {
      return; // during a reload another worker may have answered
    }
    const row = rows[classes.indexOf(labels.actual)];
    const cell = row.querySelectorAll("td")[classes.indexOf(labels.predicted)];
    cell.textContent = value.toLocaleString("en");
  }
}

export function startLive(page, model, openPage) {
  const connection = document.querySelector("#connection");
  let lostAt = null;
  let previous = null;

  function showVersion(version) {
    if (version === page.dataset.version || connection.querySelector("button")) {
      return;
    }
    const button = document.createElement("button");
    button.textContent = "Show it";
    button.addEventListener("click", openPage);
    connection.replaceChildren(`Version ${version} is served now. `, button);
  }

  async function showReadiness() {
    const response = await send("readyz");
    const { reload } = await response.json();
    setText("reload", reload ? `Refused, the old model is served: ${reload}` : "No newer file was refused.");
    showVersion(response.headers.get("X-Model-Version"));
  }

  async function showMonitoring() {
    const responses = await Promise.all([send("drift"), send("metrics")]);
    const drift = await responses[0].json();
    const samples = parseMetrics(await responses[1].text());
    if (drift.model_version !== page.dataset.version || !page.isConnected) {
      return; // the columns of another version may be others
    }
    previous = showRequests(samples, previous);
    showDrift(drift);
    showFeedback(drift.feedback);
    showConfusion(samples, model.feedbackClasses, drift.model_version);
  }

  async function refresh() {
    try {
      await showReadiness();
      if (!page.dataset.metricsPort) {
        await showMonitoring();
      }
      if (lostAt) {
        lostAt = null;
        connection.textContent = "The service answers again.";
      }
    } catch (failure) {
      if (!(failure.status === 0 || failure.status >= 500)) {
        throw failure;
      }
      lostAt ??= new Date().toLocaleTimeString("en-GB");
      connection.textContent = `No answer since ${lostAt}. ${failure.status ? failure.message : "Trying again."}`;
    }
  }

  async function poll() {
    try {
      if (document.visibilityState === "visible") {
        await refresh();
      }
    } finally {
      if (page.isConnected) {
        timer = setTimeout(poll, POLL_MILLISECONDS);
      }
    }
  }

  poll();
}
