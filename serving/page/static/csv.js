// CSV as text: records, fields, and a field as it is written.

/** Return the records of a text, as they are; a line end between quotation marks ends none. */
export function splitRecords(text) {
  const records = [];
  let start = 0;
  let isQuoted = false;
  for (let i = 0; i <= text.length; i++) {
    const character = text[i];
    if (character === '"') {
      isQuoted = !isQuoted;
    }
    const isEnd = character === undefined || (!isQuoted && (character === "\n" || character === "\r"));
    if (isEnd) {
      if (text.slice(start, i).trim()) {
        records.push(text.slice(start, i));
      }
      start = i + 1;
    }
  }
  return records;
}

/** Return the fields of one record. */
export function parseRecord(record, delimiter = ",") {
  const fields = [];
  const unquoted = `([^${delimiter}]*)`;
  const pattern = new RegExp(` *(?:"((?:[^"]|"")*)" *|${unquoted})(${escape(delimiter)}|$)`, "gy");
  for (;;) {
    const match = pattern.exec(record);
    if (!match) {
      return fields;
    }
    fields.push(match[1] === undefined ? match[2].trim() : match[1].replaceAll('""', '"'));
    if (match[3] === "") {
      return fields;
    }
  }
}

function escape(delimiter) {
  return delimiter === "|" ? "\\|" : delimiter;
}

export function quoteField(text, delimiter = ",") {
  const isPlain = !/["\r\n]/.test(text) && !text.includes(delimiter);
  return isPlain ? text : `"${text.replaceAll('"', '""')}"`;
}
