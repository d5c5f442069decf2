// Shows the description of this server's API. Tokens that are entered are not stored.
SwaggerUIBundle({
    dom_id: '#viewer',
    url: '/api/v1/openapi.json',
    deepLinking: true,
    persistAuthorization: false,
    // By default, a foreign host would be asked to validate the description.
    validatorUrl: null,
});
