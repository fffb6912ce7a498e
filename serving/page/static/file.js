// The section "A file": a CSV file in, the same file with predictions out.

import { parseRecord, splitRecords } from "./csv.js";
import { CsvFormat, decodeFile } from "./csv_format.js";
import { Scorer } from "./scoring.js";

const MAX_LISTED_LENGTH = 300;

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
  return names.map((name) => newName(name, columns));
}

/** Return the records of the file with predictions, and labels if they say more. */
function joinPredictions(format, header, records, lines, classes) {
  const labels = new Map(classes);
  const hasLabels = classes.some(([value, label]) => value !== label);
  const names = addedNames(format.columns, lines, hasLabels);

  const joined = records.map((record, index) => {
    const line = lines[index];
    if (line === null) {
      return record + format.delimiter.repeat(names.length);
    }
    const fields = parseRecord(line);
    const added = fields.map((field) => format.fromResponse(field));
    if (hasLabels) {
      added.push(labels.get(fields[0]) ?? "");
    }
    return record + format.delimiter + format.join(added);
  });
  if (header !== null) {
    joined.unshift(header + format.delimiter + format.join(names));
  }
  return joined;
}

/** Return the texts of a fault: its row, its column, the value there, and what is wrong. */
function describeFault(fault, format, records) {
  let index = fault.column;
  if (typeof index !== "number") {
    index = format.names.indexOf(fault.column);
  }
  const fields = format.parse(records[fault.row - 1]);
  const column = format.columns[index] ?? (index < 0 ? "" : `column ${index + 1}`);
  return [fault.row, column, fields[index] ?? "", fault.text];
}

function describeMissing(missing, columns) {
  const found = columns.join(", ").slice(0, MAX_LISTED_LENGTH);
  return `has no column ${missing.join(", ")}. It has ${found}.`;
}

export function startFile(page, model) {
  const drop = document.querySelector("#drop");
  const input = document.querySelector("#file");
  const status = document.querySelector("#file-status");
  const guesses = document.querySelector("#file-format");
  const progress = document.querySelector("#file-progress");
  const result = document.querySelector("#file-result");
  const faults = document.querySelector("#file-faults");

  function showFaults(descriptions) {
    faults.hidden = !descriptions.length;
    const rows = descriptions.map((texts) => {
      const row = document.createElement("tr");
      for (const text of texts) {
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
    const extension = /\.(csv|tsv|txt)$/i.exec(name)?.[0] ?? "";
    const stem = name.slice(0, name.length - extension.length);
    result.download = `${stem}.predictions${extension || ".csv"}`;
    result.textContent = `Download ${result.download}`;
    result.hidden = false;
  }

  async function score(file) {
    result.hidden = true;
    progress.value = 0;
    guesses.textContent = "";
    showFaults([]);
    const { text, encoding, mark } = decodeFile(new Uint8Array(await file.arrayBuffer()));
    const records = splitRecords(text);
    if (!records.length) {
      status.textContent = `${file.name} is empty.`;
      return;
    }

    const format = new CsvFormat(records, model);
    const notes = format.describe();
    if (encoding !== "utf-8") {
      notes.unshift(`encoding ${encoding} (the answer has UTF-8)`);
    }
    guesses.textContent = notes.length ? `Guessed: ${notes.join(", ")}.` : "";
    const missing = model.features.filter((name) => !format.matches.has(name));
    if (missing.length) {
      status.textContent = `${file.name} ${describeMissing(missing, format.columns)}`;
      return;
    }

    const header = format.hasHeader ? records.shift() : null;
    const scorer = new Scorer(format.requestHeader, page);
    const total = records.length.toLocaleString("en");
    try {
      const rows = records.map((record) => format.toRequest(record));
      const lines = await scorer.score(rows, (done) => {
        progress.value = done / records.length;
        status.textContent = `${done.toLocaleString("en")} of ${total} rows`;
      });
      const scored = lines.filter((line) => line !== null).length;
      status.textContent = `${scored.toLocaleString("en")} of ${total} rows of ${file.name} have predictions.`;
      const joined = joinPredictions(format, header, records, lines, model.classes);
      const lineEnd = /\r\n|\r|\n/.exec(text)?.[0] ?? "\n";
      offer(mark + joined.map((record) => record + lineEnd).join(""), file.name);
    } catch (failure) {
      status.textContent = failure.message;
    }
    scorer.faults.sort((fault, other) => fault.row - other.row);
    showFaults(scorer.faults.map((fault) => describeFault(fault, format, records)));
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
