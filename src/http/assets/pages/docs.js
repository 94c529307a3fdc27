"use strict";

// Tokens stay in the memory of the page, and no document is sent to a validator elsewhere.
window.SwaggerUIBundle({
  url: "/api/openapi.json",
  domNode: document.getElementById("page"),
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
