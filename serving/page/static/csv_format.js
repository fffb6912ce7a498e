// The format of a CSV file: what its first lines show. batch.py guesses in the same way.

import { parseRecord, quoteField } from "./csv.js";
import { matchFeatures } from "./names.js";

const DELIMITERS = [",", ";", "\t", "|"];
const DELIMITER_NAMES = { ";": "semicolon", "\t": "tab", "|": "vertical bar" };
const SAMPLE_RECORDS = 100;
const DECIMAL_COMMA = /^[-+]?[0-9]*,[0-9]+(e[-+]?[0-9]+)?$/i;
const DECIMAL_POINT = /^[-+]?[0-9]+\.[0-9]+(e[-+]?[0-9]+)?$/i;

/** Return the encoding of a file, which a mark shows; what is not UTF-8 is that of Windows. */
function guessEncoding(bytes) {
  const mark = (bytes[0] << 8) | bytes[1];
  if (mark === 0xfffe) {
    return "utf-16le";
  }
  if (mark === 0xfeff) {
    return "utf-16be";
  }
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return "utf-8";
  } catch {
    return "windows-1252";
  }
}

/** Return the text of a file without its mark, its encoding, and the mark that an answer needs. */
export function decodeFile(bytes) {
  const encoding = guessEncoding(bytes);
  const text = new TextDecoder(encoding, { ignoreBOM: true }).decode(bytes);
  // Excel knows UTF-8, which the answer has, by the mark alone.
  const needsMark = encoding !== "utf-8" || text.startsWith("\ufeff");
  return { text: text.replace(/^\ufeff/, ""), encoding, mark: needsMark ? "\ufeff" : "" };
}

function isHigher(score, other) {
  const index = score.findIndex((value, i) => value !== other[i]);
  return index >= 0 && score[index] > other[index];
}

/**
 * Return the delimiter with which the first record has most features, or else as many fields as a
 * row, or else most fields.
 */
function guessDelimiter(record, model) {
  let best = { delimiter: ",", score: [-1] };
  for (const delimiter of DELIMITERS) {
    const fields = parseRecord(record, delimiter);
    const nMatches = matchFeatures(model.features, fields).size;
    const score = [nMatches, Number(fields.length === model.width), fields.length];
    if (isHigher(score, best.score)) {
      best = { delimiter, score };
    }
  }
  return best.delimiter;
}

function isNumber(field) {
  return !Number.isNaN(Number(field)) || DECIMAL_COMMA.test(field);
}

/** Return whether the first record has names: one of the features, or no number at all. */
function isHeader(fields, features) {
  if (features.length) {
    return fields.length !== features.length || matchFeatures(features, fields).size > 0;
  }
  return !fields.some((field) => field !== "" && isNumber(field));
}

/** Return whether numbers in the records have a comma, and none has a point. */
function hasDecimalCommas(records, delimiter) {
  const fields = records.flatMap((record) => parseRecord(record, delimiter));
  const hasPoint = fields.some((field) => DECIMAL_POINT.test(field));
  return !hasPoint && fields.some((field) => DECIMAL_COMMA.test(field));
}

/** The format of a file: what was guessed, and its records as a request has them. */
export class CsvFormat {
  constructor(records, model) {
    this.delimiter = guessDelimiter(records[0], model);
    const first = this.parse(records[0]);
    this.hasHeader = isHeader(first, model.features);
    const sample = records.slice(Number(this.hasHeader), SAMPLE_RECORDS);
    this.hasDecimalCommas = this.delimiter !== "," && hasDecimalCommas(sample, this.delimiter);

    this.columns = this.hasHeader ? first : model.features;
    this.matches = matchFeatures(model.features, this.columns);
    const features = new Map([...this.matches].map(([feature, name]) => [name, feature]));
    // The columns with the names of the features, for a request.
    this.names = this.columns.map((name) => features.get(name) ?? name);
    this.requestHeader = null;
    if (this.hasHeader && model.features.length) {
      this.requestHeader = this.names.map((name) => quoteField(name)).join(",");
    }
    this.numbers = model.features.length ? this.names.map((name) => model.numbers.includes(name)) : [];
  }

  parse(record) {
    return parseRecord(record, this.delimiter);
  }

  /** Return the fields as a record of the file. */
  join(fields) {
    return fields.map((field) => quoteField(field, this.delimiter)).join(this.delimiter);
  }

  /** Return a record as a request has it: with commas between its fields, and decimal points. */
  toRequest(record) {
    if (this.delimiter === ",") {
      return record;
    }
    const fields = this.parse(record).map((field, index) => {
      return this.hasDecimalCommas && (this.numbers[index] ?? true) ? swapDecimals(field) : field;
    });
    return fields.map((field) => quoteField(field)).join(",");
  }

  /** Return a field of a response as the file writes it. */
  fromResponse(field) {
    return this.hasDecimalCommas && DECIMAL_POINT.test(field) ? swapDecimals(field) : field;
  }

  /** Return what was guessed, for people. */
  describe() {
    const notes = [];
    if (this.delimiter !== ",") {
      notes.push(`delimiter ${DELIMITER_NAMES[this.delimiter]}`);
    }
    if (this.hasDecimalCommas) {
      notes.push("decimal comma");
    }
    if (!this.hasHeader) {
      notes.push("no names of columns, which are in the order of the form");
    }
    for (const [feature, name] of this.matches) {
      if (feature !== name) {
        notes.push(`column “${name}” for “${feature}”`);
      }
    }
    return notes;
  }
}

/** Return a number with its comma as a point. A point, perhaps of thousands, makes it no number. */
function swapDecimals(field) {
  return field.replace(/[.,]/g, (mark) => (mark === "," ? "." : ","));
}
