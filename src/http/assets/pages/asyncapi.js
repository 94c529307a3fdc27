"use strict";

const page = document.getElementById("page");

fetch("/api/asyncapi.json")
  .then((answer) => answer.json())
  .then((schema) => {
    // The document is the same everywhere; the page knows where it comes from.
    schema.servers.club = {
      host: location.host,
      protocol: location.protocol === "https:" ? "wss" : "ws",
      description: "The server that this page comes from.",
    };
    window.AsyncApiStandalone.render({ schema, config: { show: { errors: true }, sidebar: { showOperations: "byDefault" } } }, page);
  })
  .catch((error) => {
    page.textContent = `The document did not load: ${error.message}`;
  });
