// The section "Try it": predict for the row in the form while it changes.

import { findControls } from "./controls.js";
import { absoluteUrl, hasKey, send } from "./service.js";

const JSON_HEADERS = { "Content-Type": "application/json" };

/** Return the curl command that sends `body`. */
export function curlCommand(body) {
  const lines = [`curl -X POST ${absoluteUrl("predict")}`, '-H "Content-Type: application/json"'];
  if (hasKey()) {
    lines.push('-H "Authorization: Bearer $API_KEY"');
  }
  const quoted = body.replaceAll("'", "'\\''");
  lines.push(`-d '${quoted}'`);
  return lines.join(" \\\n  ");
}

function showProbabilities(list, probabilities, label) {
  [...list.children].forEach((item, index) => {
    const name = item.querySelector(".class").textContent;
    item.classList.toggle("is-predicted", name === label);
    if (probabilities) {
      const percent = 100 * probabilities[index];
      item.querySelector(".share").textContent = `${percent.toFixed(1)} %`;
      item.querySelector(".level").setAttribute("width", percent.toFixed(2));
    }
  });
}

function showOnDistribution(element, value) {
  const minimum = Number(element.dataset.minimum);
  const maximum = Number(element.dataset.maximum);
  const position = (100 * (value - minimum)) / (maximum - minimum || 1);
  const marker = element.querySelector(".marker rect");
  marker.setAttribute("x", Math.min(99.2, Math.max(0, position - 0.4)).toFixed(2));
}

function describe(prediction) {
  if (typeof prediction === "number" && !Number.isInteger(prediction)) {
    return String(Number(prediction.toPrecision(5)));
  }
  return Array.isArray(prediction) ? prediction.join(", ") : String(prediction);
}

export function startTry(model) {
  const form = document.querySelector("#features");
  const controls = findControls(form);
  const output = document.querySelector("#prediction");
  const latency = document.querySelector("#latency");
  const error = document.querySelector("#predict-error");
  const curl = document.querySelector("#curl");
  const classes = document.querySelector("#classes");
  const distribution = document.querySelector("#distribution");
  let isSending = false;
  let hasChanged = false;

  function requestBody() {
    const request = { features: controls.map((control) => control.value) };
    if (model.outputs.length) {
      request.outputs = model.outputs;
    }
    return JSON.stringify(request);
  }

  async function predict() {
    const invalid = controls.find((control) => !control.isValid);
    if (invalid) {
      error.textContent = `${invalid.name}: enter a number.`;
      return;
    }

    const body = requestBody();
    curl.textContent = curlCommand(body);
    const startedAt = performance.now();
    try {
      const response = await send("predict", { method: "POST", headers: JSON_HEADERS, body });
      const answer = await response.json();
      const milliseconds = performance.now() - startedAt;
      error.textContent = "";
      show(answer);
      latency.textContent = `Answered in ${milliseconds.toFixed(1)} ms, the network included.`;
    } catch (failure) {
      error.textContent = failure.message;
    }
  }

  function show(answer) {
    const text = describe(answer.label ? answer.label[0] : answer.prediction[0]);
    if (output.textContent !== text) {
      output.textContent = text;
    }
    if (classes) {
      showProbabilities(classes, answer.probability?.[0], text);
    }
    if (distribution) {
      showOnDistribution(distribution, answer.prediction[0]);
    }
  }

  /** Predict for the newest row: one request at a time, and none for rows in between. */
  async function update() {
    controls.forEach((control) => control.show());
    hasChanged = true;
    if (isSending) {
      return;
    }
    isSending = true;
    while (hasChanged) {
      hasChanged = false;
      await predict();
    }
    isSending = false;
  }

  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const button of form.querySelectorAll("[data-row]")) {
    button.addEventListener("click", () => {
      const row = JSON.parse(button.dataset.row);
      controls.forEach((control, index) => {
        control.value = row[index];
      });
      update();
    });
  }

  const copy = document.querySelector("#copy");
  copy.hidden = !navigator.clipboard; // which only https and localhost have
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(curl.textContent);
    copy.textContent = "Copied";
  });

  curl.textContent = curlCommand(requestBody());
  if (classes) {
    showProbabilities(classes, null, output.textContent);
  }
  if (distribution) {
    showOnDistribution(distribution, Number(distribution.dataset.value));
  }
}
