// The text of GET /metrics: its samples, and what the page shows of them.

const SAMPLE = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/i;
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/gi;
const ESCAPES = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };

function parseLabels(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(LABEL)) {
    labels[name] = value.replace(/\\[n"\\]/g, (escape) => ESCAPES[escape]);
  }
  return labels;
}

/** Return the samples by name, each with its labels and its value. */
export function parseMetrics(text) {
  const samples = {};
  for (const line of text.split("\n")) {
    const match = SAMPLE.exec(line);
    if (match) {
      const [, name, labels, value] = match;
      (samples[name] ??= []).push({ labels: parseLabels(labels ?? ""), value: Number(value) });
    }
  }
  return samples;
}

function sum(samples) {
  return samples.reduce((total, sample) => total + sample.value, 0);
}

/** Return the number of POST requests, and of those that were refused or failed. */
export function countRequests(samples) {
  const posts = samples.http_requests_total.filter(({ labels }) => labels.method === "POST");
  return {
    all: sum(posts),
    clientErrors: sum(posts.filter(({ labels }) => labels.status.startsWith("4"))),
    serverErrors: sum(posts.filter(({ labels }) => labels.status.startsWith("5"))),
  };
}

/** Return the durations of the routes with POST: upper bounds in seconds, and a count for each. */
export function readDurations(samples) {
  const routes = new Set();
  for (const { labels } of samples.http_requests_total) {
    if (labels.method === "POST") {
      routes.add(labels.route);
    }
  }

  const cumulative = new Map();
  for (const { labels, value } of samples.http_request_duration_seconds_bucket) {
    if (routes.has(labels.route)) {
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      cumulative.set(bound, (cumulative.get(bound) ?? 0) + value);
    }
  }
  const bounds = [...cumulative.keys()].sort((a, b) => a - b);
  const counts = bounds.map((bound, index) => {
    return cumulative.get(bound) - (index ? cumulative.get(bounds[index - 1]) : 0);
  });
  return { bounds, counts };
}

/** Return a quantile in seconds, interpolated within its bucket, or null without requests. */
export function quantile({ bounds, counts }, share) {
  const total = counts.reduce((a, b) => a + b, 0);
  if (!total) {
    return null;
  }
  let below = 0;
  for (const [index, count] of counts.entries()) {
    if (count && below + count >= share * total) {
      const lower = index ? bounds[index - 1] : 0;
      const upper = Number.isFinite(bounds[index]) ? bounds[index] : lower;
      return lower + ((upper - lower) * (share * total - below)) / count;
    }
    below += count;
  }
  return null;
}
