// Shows what a push service hands over: the JSON of senders/webpush.py, {title, body, tag, url?, image?, data}.
"use strict";

const KEPT = 20; // notifications that the page "This browser" lists

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  event.waitUntil(show(read(event.data)));
});

// Browsers end the subscription of a worker that shows nothing, so that even what cannot be read is told.
function read(data) {
  try {
    const message = data.json();
    if (message && typeof message.title === "string") return message;
  } catch { /* no JSON of ours */ }
  return { title: "Tocsin", body: data ? data.text().slice(0, 300) : "A notification without content" };
}

async function show(message) {
  await self.registration.showNotification(message.title, {
    body: message.body ?? "",
    tag: message.tag,
    renotify: Boolean(message.tag),
    image: message.image,
    icon: "/static/icon.png",
    data: { url: message.url, job_id: message.data?.job_id },
  });
  await remember({ title: message.title, body: message.body ?? "", at: Date.now() });
  for (const client of await self.clients.matchAll({ includeUncontrolled: true })) {
    client.postMessage({ kind: "received" });
  }
}

async function remember(row) {
  const cache = await caches.open("tocsin-received");
  const found = await cache.match("/received");
  const rows = found ? await found.json() : [];
  await cache.put("/received", new Response(JSON.stringify([row, ...rows].slice(0, KEPT))));
}

// The browser's push service replaced the subscription, so that ours leads nowhere. The page can store the new one, for
// which a person has to be signed in.
self.addEventListener("pushsubscriptionchange", (event) => {
  event.waitUntil(
    self.registration.showNotification("Tocsin", {
      body: "This browser has to subscribe again to go on getting notifications.",
      tag: "subscribe-again",
      icon: "/static/icon.png",
      data: { url: new URL("/device", self.location.origin).href },
    }),
  );
});

// A press opens the alert's own link or, without one, the job; a window of ours that is open already is used again.
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data ?? {}));
});

async function open({ url, job_id }) {
  const wanted = /^https?:\/\//.test(url ?? "") ? url : job_id ? `/jobs/${job_id}` : "/device";
  const address = new URL(wanted, self.location.origin).href;
  for (const client of await self.clients.matchAll({ type: "window" })) {
    if (client.url === address && "focus" in client) return client.focus();
  }
  return self.clients.openWindow(address);
}
