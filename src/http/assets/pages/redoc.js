"use strict";

window.Redoc.init("/api/openapi.json", {}, document.getElementById("page"));
