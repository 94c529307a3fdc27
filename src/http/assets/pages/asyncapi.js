"use strict";

window.AsyncApiStandalone.render(
  { schema: { url: "/api/asyncapi.json" }, config: { show: { errors: true }, sidebar: { showOperations: "byDefault" } } },
  document.getElementById("page"),
);
