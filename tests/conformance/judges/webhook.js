"use strict";
// Question: {secret, headers, body}. Verdict: the parsed body, as each library gives it once it has verified it.

const standard = require("standardwebhooks");
const svix = require("svix");

require("./lines")(({ secret, headers, body }) => ({
  standardwebhooks: new standard.Webhook(secret).verify(body, headers),
  svix: new svix.Webhook(secret).verify(body, headers),
}));
