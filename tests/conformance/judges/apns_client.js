"use strict";
// Question: {address, port, ca, token: {key, keyId, teamId}, topic, devices, fields}. Verdict: {sent, failed}, the
// devices that took a notification with these fields, and those that did not with the status and reason.

const apn = require("@parse/node-apn");

require("./lines")(async ({ address, port, ca, token, topic, devices, fields }) => {
  const provider = new apn.Provider({ address, port, ca, token, production: false });
  const notification = Object.assign(new apn.Notification(), fields, { topic });
  const { sent, failed } = await provider.send(notification, devices);
  await provider.shutdown();
  return {
    sent: sent.map(({ device }) => device),
    failed: failed.map(({ device, status, response, error }) => ({
      device,
      status,
      reason: response ? response.reason : String(error),
    })),
  };
});
