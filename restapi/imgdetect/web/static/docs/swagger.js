"use strict";

// Swagger UI would let ?url= replace the contract by a stranger's; this page shows one contract only.
if (location.search) {
  history.replaceState(null, "", location.pathname + location.hash);
}

window.ui = SwaggerUIBundle({
  url: document.currentScript.dataset.contract,
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
