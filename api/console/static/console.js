// What moves on the pages: times in the reader's zone, parts that follow what happens, questions before deletions.
// Every page works without it.
"use strict";

// Milliseconds: between two looks at the same page, however often something changes; after a change, until what is
// computed only every two seconds is new too; and where nothing changes, until the plots have moved on.
const PAUSE = 1000;
const AFTERWARDS = 2500;
const IDLE = 60000;
// For one look at most; until one that brought nothing is tried again; and until a stream that was refused is: at first,
// and at most, since the time doubles with each refusal.
const PATIENCE = 30000;
const AGAIN = 5000;
const REFUSED = 2000;
const REFUSED_OFTEN = 30000;
// In which a second press sends nothing: it was meant for the first, whose answer takes its time.
const SENT = 5000;

// A page that answers a form stands at the form's address. Its own is the one to load again, and to give to others.
const canonical = document.querySelector("link[rel=canonical]");
if (canonical && new URL(canonical.href).pathname !== location.pathname) history.replaceState(null, "", canonical.href);

// Times.

const form = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });

function localize(root) {
  const today = new Date().toDateString();
  for (const each of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(each.dateTime);
    each.title = each.dateTime;
    const words = (moment.toDateString() === today ? clock : form).format(moment);
    if (each.textContent !== words) each.textContent = words; // which would end a selection
  }
  for (const each of root.querySelectorAll("text[data-time]")) {
    each.textContent = short.format(new Date(each.dataset.time));
  }
}

// Live parts: the page is fetched again, and what is marked takes the place of what is there.

const sign = document.getElementById("live-sign");
let waiting = false;
let busy = false;
let pressed = false;
let source = null;
let refusal = REFUSED;
let again = 0;
let missed = ""; // why the last look brought nothing; empty if it did

// What the server drew, by the part's id: what it draws alike again is left as it is.
const drawn = new Map();
for (const each of document.querySelectorAll("[data-live]")) drawn.set(each.id, each.innerHTML);

// A press must end on the element on which it began.
addEventListener("pointerdown", () => { pressed = true; });
for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => setTimeout(() => { pressed = false; }, 100));

// The page lives while it hears of changes and its looks bring what is there.
function tell() {
  if (!sign || !source) return;
  const words = missed || ["Reconnecting", "Live", "Not live"][source.readyState];
  sign.hidden = false;
  sign.dataset.state = words === "Live" ? "on" : "lost";
  if (sign.textContent !== words) sign.textContent = words;
}

// Where the reader is must not move under their hands: focus, open details and scrolled tables are kept.
function keep(old, made) {
  const details = old.querySelectorAll("details");
  made.querySelectorAll("details").forEach((each, index) => {
    each.open = details[index]?.id === each.id && details[index].open;
  });
  const regions = old.querySelectorAll(".scroll, pre");
  const places = [...regions].map((each) => [each.scrollLeft, each.scrollTop]);
  const focused = old.contains(document.activeElement) ? pathOf(document.activeElement, old) : null;
  return () => {
    made.querySelectorAll(".scroll, pre").forEach((each, index) => {
      if (places[index]) [each.scrollLeft, each.scrollTop] = places[index];
    });
    if (focused) (find(made, focused) ?? made.querySelector("a, button, summary"))?.focus({ preventScroll: true });
  };
}

function pathOf(element, root) {
  if (element.getAttribute("href")) return { href: element.getAttribute("href") };
  const same = [...root.querySelectorAll(element.tagName)];
  return { tag: element.tagName, index: same.indexOf(element) };
}

function find(root, place) {
  if (place.href) return [...root.querySelectorAll("a")].find((each) => each.getAttribute("href") === place.href);
  return root.querySelectorAll(place.tag)[place.index];
}

function isBeingUsed(part) {
  const active = document.activeElement;
  const types = part.contains(active) && active.matches("input, select, textarea");
  const selection = document.getSelection();
  return pressed || types || (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
}

function sessionOf(page) {
  return page.querySelector("meta[name=csrf-token]")?.content;
}

async function refresh() {
  if (busy || document.hidden) {
    waiting = true;
    return;
  }
  busy = true;
  waiting = false;
  try {
    const answer = await fetch(location.href, {
      headers: { Accept: "text/html" }, credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") {
      location.reload(); // the key was revoked, or the session is over
      return;
    }
    const fetched = new DOMParser().parseFromString(await answer.text(), "text/html");
    const session = sessionOf(fetched);
    if (session && session !== sessionOf(document)) {
      location.reload(); // another tab signed in anew, maybe to another tenant: nothing of it belongs on this page
      return;
    }
    missed = answer.ok ? "" : "Not live";
    if (answer.ok) take(fetched);
  } catch {
    missed = "No connection";
  } finally {
    tell();
    clearTimeout(again);
    if (missed) again = setTimeout(refresh, AGAIN);
    setTimeout(() => {
      busy = false;
      if (waiting) refresh();
    }, PAUSE);
  }
}

function take(fetched) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const made = fetched.getElementById(old.id);
    if (!made || made.innerHTML === drawn.get(old.id)) continue;
    if (isBeingUsed(old)) {
      waiting = true;
      continue;
    }
    drawn.set(old.id, made.innerHTML);
    localize(made);
    const restore = keep(old, made);
    old.replaceWith(made);
    restore();
  }
  localize(document); // midnight may have passed: what was drawn today is of another day
  if (sign) {
    delete sign.dataset.beat;
    void sign.offsetWidth; // lets the animation begin anew
    sign.dataset.beat = "";
  }
}

function follow() {
  if (!sign || !document.querySelector("[data-live]")) return;
  source = new EventSource("/events");
  let afterwards = 0;
  source.addEventListener("hello", () => {
    refusal = REFUSED;
    tell();
    refresh(); // something may have happened since the page was drawn, or the stream was lost
  });
  source.addEventListener("change", () => {
    refresh();
    clearTimeout(afterwards);
    afterwards = setTimeout(refresh, AFTERWARDS);
  });
  source.addEventListener("error", () => {
    tell();
    // Refused: too many pages are open, or the session is over. The browser does not try again by itself.
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => { refresh(); follow(); }, refusal);
    refusal = Math.min(2 * refusal, REFUSED_OFTEN);
  });
}

addEventListener("pagehide", () => source?.close());

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && waiting) refresh();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // out of the browser's memory: the stream was closed
});

// Forms.

let sentAt = -Infinity;
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  const asked = event.submitter?.dataset.confirm;
  if (event.timeStamp - sentAt < SENT || (asked && !confirm(asked))) event.preventDefault();
  else sentAt = event.timeStamp;
});

for (const each of document.querySelectorAll("[data-own-zone]")) {
  each.value ||= Intl.DateTimeFormat().resolvedOptions().timeZone;
}

document.querySelector("nav [aria-current=page]")?.scrollIntoView({ inline: "center", block: "nearest" });
localize(document);
follow();
if (document.querySelector("[data-live]")) setInterval(refresh, IDLE);
