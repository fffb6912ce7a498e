// The start of the page, and the way in with an API key.

import { startFile } from "./file.js";
import { startLive, stopLive } from "./live.js";
import { send, setKey } from "./service.js";
import { startTry } from "./try_it.js";

/** Fetch the page with the key, and show it in place of what is shown now. */
async function openPage() {
  const response = await send(".", { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  stopLive();
  document.title = page.title;
  document.body.replaceWith(page.body);
  start();
}

function startLocked(form) {
  const input = form.querySelector("input");
  const error = form.querySelector("#key-error");
  input.focus();

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.textContent = "";
    setKey(input.value);
    try {
      await openPage();
    } catch (failure) {
      setKey("");
      error.textContent = failure.status === 401 ? "This key is not accepted." : failure.message;
      input.select();
    }
  });
}

function start() {
  const form = document.querySelector("#key-form");
  if (form) {
    startLocked(form);
    return;
  }
  const page = document.querySelector("#page");
  const model = JSON.parse(page.dataset.script);
  startTry(model);
  startLive(page, model, openPage);
  startFile(page, model);
}

start();
