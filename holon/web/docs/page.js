// Shows the node's OpenAPI document with Swagger UI. Nothing is fetched from anywhere but the node.
"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  // Otherwise it would send the document to a validator of its makers.
  validatorUrl: null,
});
