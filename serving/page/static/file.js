// The section "A file": a CSV file in, the same file with predictions out.

import { parseRecord, quoteField, splitRecords } from "./csv.js";
import { Scorer } from "./scoring.js";

/** Return whether the first record has names: one of the features, or no number at all. */
function isHeader(record, features) {
  const fields = parseRecord(record);
  if (features.length) {
    return fields.length !== features.length || fields.some((field) => features.includes(field));
  }
  return fields.every((field) => field === "" || Number.isNaN(Number(field)));
}

/** Return `name`, with underscores until no column has it. */
function newName(name, columns) {
  return columns.includes(name) ? newName(`${name}_`, columns) : name;
}

function addedNames(columns, lines, hasLabels) {
  const width = parseRecord(lines.find((line) => line !== null) ?? "").length;
  const names = [];
  for (let i = 0; i < width; i++) {
    names.push(width > 1 ? `prediction_${i}` : "prediction");
  }
  if (hasLabels) {
    names.push("label");
  }
  return names.map((name) => quoteField(newName(name, columns)));
}

/** Return the text of the file with predictions, and labels if they say more. */
function joinPredictions(header, records, lines, classes) {
  const labels = new Map(classes);
  const hasLabels = classes.some(([value, label]) => value !== label);
  const names = addedNames(header === null ? [] : parseRecord(header), lines, hasLabels);

  const joined = records.map((record, index) => {
    const line = lines[index];
    if (line === null) {
      return record + ",".repeat(names.length);
    }
    const label = hasLabels ? `,${quoteField(labels.get(parseRecord(line)[0]) ?? "")}` : "";
    return `${record},${line}${label}`;
  });
  if (header !== null) {
    joined.unshift([header, ...names].join(","));
  }
  return `${joined.join("\n")}\n`;
}

function columnName(fault, columns) {
  if (typeof fault.column === "number") {
    return columns[fault.column] ?? `column ${fault.column + 1}`;
  }
  return fault.column ?? "";
}

export function startFile(page, model) {
  const drop = document.querySelector("#drop");
  const input = document.querySelector("#file");
  const status = document.querySelector("#file-status");
  const progress = document.querySelector("#file-progress");
  const result = document.querySelector("#file-result");
  const faults = document.querySelector("#file-faults");

  function showFaults(found, columns) {
    faults.hidden = !found.length;
    const rows = found.map((fault) => {
      const row = document.createElement("tr");
      for (const text of [fault.row, columnName(fault, columns), fault.text]) {
        row.insertCell().textContent = text;
      }
      row.cells[0].className = "number";
      return row;
    });
    faults.querySelector("tbody").replaceChildren(...rows);
  }

  function offer(text, name) {
    URL.revokeObjectURL(result.href);
    result.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    result.download = name.replace(/(\.csv)?$/i, ".predictions.csv");
    result.textContent = `Download ${result.download}`;
    result.hidden = false;
  }

  async function score(file) {
    result.hidden = true;
    progress.value = 0;
    showFaults([], []);
    const records = splitRecords((await file.text()).replace(/^\ufeff/, ""));
    if (!records.length) {
      status.textContent = `${file.name} is empty.`;
      return;
    }

    const header = isHeader(records[0], model.features) ? records.shift() : null;
    const columns = header === null ? model.features : parseRecord(header);
    const missing = model.features.filter((name) => !columns.includes(name));
    if (missing.length) {
      status.textContent = `${file.name} has no column ${missing.join(", ")}. A comma separates columns.`;
      return;
    }

    const scorer = new Scorer(header, page);
    const total = records.length.toLocaleString("en");
    try {
      const lines = await scorer.score(records, (done) => {
        progress.value = done / records.length;
        status.textContent = `${done.toLocaleString("en")} of ${total} rows`;
      });
      const scored = lines.filter((line) => line !== null).length;
      status.textContent = `${scored.toLocaleString("en")} of ${total} rows of ${file.name} have predictions.`;
      offer(joinPredictions(header, records, lines, model.classes), file.name);
    } catch (failure) {
      status.textContent = failure.message;
    }
    showFaults(scorer.faults, columns);
  }

  input.addEventListener("change", () => {
    if (input.files.length) {
      score(input.files[0]);
    }
  });
  for (const type of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("is-over", type === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (file) {
      score(file);
    }
  });
}
