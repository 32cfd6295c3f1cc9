"use strict";
// Question: {body, private_key, auth_secret}, all base64. Verdict: {plaintext}.

const { createECDH } = require("node:crypto");
const ece = require("http_ece");

require("./lines")(({ body, private_key, auth_secret }) => {
  const privateKey = createECDH("prime256v1");
  privateKey.setPrivateKey(private_key, "base64");
  const parameters = { version: "aes128gcm", privateKey, authSecret: auth_secret };
  return { plaintext: ece.decrypt(Buffer.from(body, "base64"), parameters).toString() };
});
