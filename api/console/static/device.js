// This browser as a device: permission, the subscription, and what has arrived (see service-worker.js).
"use strict";

(() => {
  const PATIENCE = 10000; // milliseconds that a push service may take; where it is out of reach some browsers wait for ever
  const byId = (id) => document.getElementById(id);
  const state = byId("device-state");
  const form = byId("device-form");
  const actions = byId("device-actions");
  let registration = null;

  function say(tone, ...words) {
    state.className = `notice ${tone}`;
    state.replaceChildren(...words);
  }

  // What others wrote: whatever its direction, what stands beside it keeps its own.
  function bdi(text) {
    const made = document.createElement("bdi");
    made.textContent = text;
    return made;
  }

  async function post(address, content) {
    const answer = await fetch(address, {
      method: "POST",
      credentials: "same-origin",
      headers: {
        Accept: "application/json",
        "Content-Type": "application/json",
        "X-CSRF-Token": document.querySelector("meta[name=csrf-token]").content,
      },
      body: JSON.stringify(content),
    });
    const document_ = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error([document_.detail, ...(document_.errors ?? [])].filter(Boolean).join("; ") || `HTTP ${answer.status}`);
    return document_;
  }

  function bytes(base64url) {
    const padded = base64url.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat((4 - (base64url.length % 4)) % 4);
    return Uint8Array.from(atob(padded), (one) => one.charCodeAt(0));
  }

  function withPatience(promise) {
    return Promise.race([
      promise,
      new Promise((_, reject) => setTimeout(() => reject(new DOMException("no answer", "TimeoutError")), PATIENCE)),
    ]);
  }

  function explain(error) {
    if (error.name === "NotAllowedError") return "Permission for notifications was denied. Grant it in the browser's settings for this site, then try again.";
    if (error.name === "AbortError" || error.name === "TimeoutError" || error.name === "NetworkError") {
      return `The browser's push service is out of reach (${error.message}). Nothing was stored. Check that this browser can reach its maker's servers; a Chromium without its maker's keys has no push service at all.`;
    }
    if (error.name === "InvalidStateError") return "This browser has a subscription with another key. Unsubscribe first.";
    return `It did not work: ${error.message}`;
  }

  async function look() {
    if (!window.isSecureContext) return say("warn", "This page is no secure place: browsers allow push on https:// and on localhost alone.");
    if (!("serviceWorker" in navigator)) return say("warn", "This browser has no service workers, or a private window without them.");
    try {
      registration = await navigator.serviceWorker.register("/service-worker.js");
      await navigator.serviceWorker.ready;
    } catch (error) {
      return say("bad", `The service worker cannot be registered: ${error.message}`);
    }
    navigator.serviceWorker.addEventListener("message", (event) => {
      if (event.data?.kind === "received") received();
    });
    actions.hidden = false;
    byId("device-name").value ||= name();
    await received();
    if (!("PushManager" in window)) return say("warn", "This browser has no Web Push.");
    if (form.dataset.offered === "no") return say("warn", "Web Push is not configured on this server, so that no browser can subscribe yet.");
    await compare();
  }

  // What the browser says and what the server knows may differ: either may have forgotten.
  async function compare() {
    const subscription = await registration.pushManager.getSubscription();
    const device = subscription ? (await post("/device/known", { endpoint: subscription.endpoint })).device : null;
    const may = form.dataset.admin === "yes";
    form.hidden = !may || Boolean(device && !device.disabled_at);
    byId("device-unsubscribe")?.toggleAttribute("hidden", !subscription);
    const link = byId("device-page");
    link.hidden = !device;
    if (device) link.href = `/user?id=${encodeURIComponent(device.user_id)}`;
    if (device?.disabled_at) say("warn", "This browser is ", bdi(device.user_id), "'s device “", bdi(device.name), "”, but disabled (", bdi(device.disabled_reason ?? "no reason given"), "). Subscribe again.");
    else if (device) say("good", "This browser is ", bdi(device.user_id), "'s device “", bdi(device.name), "”.");
    else if (subscription) say("warn", "This browser has a subscription that the server does not know. Subscribe again, or unsubscribe.");
    else if (Notification.permission === "denied") say("warn", explain({ name: "NotAllowedError" }));
    else say("", may ? "This browser is not subscribed." : "This browser is not subscribed, and this key may not change that.");
  }

  function name() {
    const brand = navigator.userAgentData?.brands?.find((each) => !/not.?a.?brand|chromium/i.test(each.brand))?.brand;
    const found = brand ?? /(Firefox|Edg|Chrome|Safari)/.exec(navigator.userAgent)?.[1] ?? "Browser";
    return `${found} on ${navigator.userAgentData?.platform || navigator.platform || "this machine"}`;
  }

  // Space at an end was not meant, unless it is that of a user who is known.
  function user() {
    const given = byId("device-user").value;
    return [...byId("users").options].some((each) => each.value === given) ? given : given.trim();
  }

  async function subscribe() {
    say("", "Asking for permission …");
    try {
      if ((await Notification.requestPermission()) !== "granted") throw new DOMException("denied", "NotAllowedError");
      say("", "Asking the browser's push service …");
      const subscription = await withPatience(
        registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(byId("device-key").value) }),
      );
      await post("/device/subscribe", {
        user_id: user(),
        name: byId("device-name").value.trim(),
        subscription: subscription.toJSON(),
      });
      await compare();
    } catch (error) {
      say("bad", explain(error));
    }
  }

  async function unsubscribe() {
    try {
      const subscription = await registration.pushManager.getSubscription();
      if (subscription) {
        await post("/device/forget", { endpoint: subscription.endpoint });
        await subscription.unsubscribe();
      }
      await compare();
    } catch (error) {
      say("bad", explain(error));
    }
  }

  async function tryHere() {
    if ((await Notification.requestPermission()) !== "granted") return say("bad", explain({ name: "NotAllowedError" }));
    await registration.showNotification("Tocsin", { body: "This is how a notification looks here.", tag: "try" });
  }

  async function received() {
    const list = byId("received");
    const cache = await caches.open("tocsin-received");
    const found = await cache.match("/received");
    const rows = found ? await found.json() : [];
    if (!rows.length) return;
    list.replaceChildren(...rows.map((row) => {
      const item = document.createElement("li");
      const title = document.createElement("strong");
      title.append(bdi(row.title));
      const body = document.createElement("span");
      body.className = "said";
      body.append(" ", bdi(row.body), ` – ${new Date(row.at).toLocaleString()}`);
      item.append(title, body);
      return item;
    }));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    subscribe();
  });
  const orSay = (promise) => promise.catch((error) => say("bad", explain(error)));
  byId("device-try").addEventListener("click", () => orSay(tryHere()));
  byId("device-unsubscribe")?.addEventListener("click", unsubscribe);
  orSay(look());
})();
