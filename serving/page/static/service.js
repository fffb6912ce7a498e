// Requests to the service, with the API key that was typed in, which is kept in memory only.

let key = "";

export function setKey(value) {
  key = value;
}

export function hasKey() {
  return key !== "";
}

/** An error response, or no response at all (status 0). */
export class ServiceError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

function withKey(headers) {
  if (!key) {
    return headers;
  }
  // A header is bytes, and the service reads them as UTF-8.
  const bytes = new TextEncoder().encode(key);
  return { ...headers, Authorization: `Bearer ${String.fromCharCode(...bytes)}` };
}

async function readError(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error ?? text;
  } catch {
    return text || response.statusText;
  }
}

/** Return the response for a path relative to the page, or throw a ServiceError. */
export async function send(path, { method = "GET", headers = {}, body } = {}) {
  let response;
  try {
    response = await fetch(path, { method, headers: withKey(headers), body, cache: "no-store" });
  } catch {
    throw new ServiceError("The service does not answer.", 0);
  }
  if (!response.ok) {
    throw new ServiceError(await readError(response), response.status);
  }
  return response;
}

export function absoluteUrl(path) {
  return new URL(path, document.baseURI).href;
}
