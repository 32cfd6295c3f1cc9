"use strict";
// web-push-testing's push service on 127.0.0.1 and a free port, until stdin ends. Prints {"url"} once it listens.

const { createServer } = require("node:http");
const { PushApiModel } = require("web-push-testing/src/PushApiModel");
const WebPushTestingServer = require("web-push-testing/src/server");

const model = new PushApiModel();
const service = new WebPushTestingServer(model, 0);
// Its own way to listen would be on every interface, and would not say on which port.
service._app.listen = () => {
  const server = createServer(service._app);
  return server.listen(0, "127.0.0.1", () => {
    const url = `http://127.0.0.1:${server.address().port}`;
    model.notifyUrl = `${url}/notify/`;
    process.stdout.write(`${JSON.stringify({ url })}\n`);
  });
};
service.startServer();
process.stdin.on("end", () => process.exit(0)).resume();
