// Records of a CSV file in, predictions out: in blocks that the service accepts.

import { splitRecords } from "./csv.js";
import { send } from "./service.js";

const MAX_BLOCK_ROWS = 1000;
const MAX_BLOCK_BYTES = 200_000;
const MAX_FAULTS = 20;
const PLACE = / - at `\$\[(\d+)\](?:\[(\d+)\]|\.([^`]+))?`/;
const ROW = / row (\d+)$/;

export class TooManyFaults extends Error {
  constructor() {
    super(`Stopped after ${MAX_FAULTS} rows that cannot be scored.`);
  }
}

/** Return the row, the column and the text of an error of the service; a row may be unknown. */
function readFault(message) {
  const place = PLACE.exec(message);
  if (place) {
    const column = place[2] === undefined ? place[3] : Number(place[2]);
    return { row: Number(place[1]), column, text: message.replace(PLACE, "") };
  }
  const row = ROW.exec(message);
  return { row: row ? Number(row[1]) : null, column: undefined, text: message };
}

/** Yield blocks of records, each with the index of its first one. */
function* splitBlocks(records, maxRows, maxBytes) {
  let block = [];
  let bytes = 0;
  for (const [index, record] of records.entries()) {
    const size = 3 * record.length; // a character has at most three bytes for each unit of UTF-16
    if (block.length && (block.length >= maxRows || bytes + size > maxBytes)) {
      yield { first: index - block.length, block };
      block = [];
      bytes = 0;
    }
    block.push(record);
    bytes += size;
  }
  if (block.length) {
    yield { first: records.length - block.length, block };
  }
}

export class Scorer {
  /** `header` is the record with the names of the columns, or null. */
  constructor(header, page) {
    this.header = header;
    this.maxRows = Math.min(MAX_BLOCK_ROWS, Number(page.dataset.maxRows));
    this.maxBytes = Math.min(MAX_BLOCK_BYTES, Number(page.dataset.maxBodyBytes) / 2);
    this.faults = [];
  }

  /** Return a line of predictions for each record, or null for one that cannot be scored. */
  async score(records, onProgress) {
    const lines = [];
    for (const { first, block } of splitBlocks(records, this.maxRows, this.maxBytes)) {
      lines.push(...(await this.scoreBlock(block, first)));
      onProgress(lines.length);
    }
    return lines;
  }

  async scoreBlock(block, first) {
    if (!block.length) {
      return [];
    }
    try {
      return splitRecords(await this.request(block));
    } catch (failure) {
      if (failure.status !== 400 && failure.status !== 413) {
        throw failure;
      }
      return this.withoutFault(block, first, readFault(failure.message));
    }
  }

  /** Score a block but for the row with a fault; halve the block if the row is not known. */
  async withoutFault(block, first, fault) {
    if (fault.row === null && block.length > 1) {
      const middle = Math.floor(block.length / 2);
      const lines = await this.scoreBlock(block.slice(0, middle), first);
      return [...lines, ...(await this.scoreBlock(block.slice(middle), first + middle))];
    }

    const row = fault.row ?? 0;
    this.faults.push({ ...fault, row: first + row + 1 });
    if (this.faults.length > MAX_FAULTS) {
      this.faults.pop();
      throw new TooManyFaults();
    }
    const before = await this.scoreBlock(block.slice(0, row), first);
    const after = await this.scoreBlock(block.slice(row + 1), first + row + 1);
    return [...before, null, ...after];
  }

  async request(block) {
    const records = this.header === null ? block : [this.header, ...block];
    const header = this.header === null ? "absent" : "present";
    const response = await send("invocations", {
      method: "POST",
      headers: { "Content-Type": `text/csv; header=${header}`, Accept: "text/csv" },
      body: `${records.join("\n")}\n`,
    });
    return response.text();
  }
}
