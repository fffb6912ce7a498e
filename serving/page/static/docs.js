// The page of /docs: Swagger UI with the document of this service, which may need an API key.

import { send, setKey } from "./service.js";

function show(spec, key) {
  const ui = SwaggerUIBundle({
    spec,
    dom_id: "#page",
    tryItOutEnabled: true,
    validatorUrl: null,
    // What is typed in as a key is forgotten with the page.
    persistAuthorization: false,
    onComplete: () => {
      if (key) {
        ui.preauthorizeApiKey("key", key);
      }
    },
  });
}

async function open(key) {
  setKey(key);
  const response = await send("openapi.json");
  show(await response.json(), key);
}

function askForKey() {
  const form = document.querySelector("#key-form");
  const input = form.querySelector("input");
  const error = form.querySelector("#key-error");
  form.hidden = false;
  input.focus();

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await open(input.value);
      form.remove();
    } catch (failure) {
      error.textContent = failure.status === 401 ? "This key is not accepted." : failure.message;
      input.select();
    }
  });
}

if ("needsKey" in document.querySelector("#page").dataset) {
  askForKey();
} else {
  await open("");
}
