"use strict";
// Keeps the part that changes up to date, and loads the page anew where more than that has changed.

const BUSY_MS = 4000;
const IDLE_MS = 15000;

let timer = 0;

function isAtWork() {
  return document.querySelector("details.action[open]") !== null;
}

async function look() {
  const shown = document.getElementById("now");
  try {
    const answer = document.hidden ? null : await fetch("now", { cache: "no-store" });
    if (answer && answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      take(shown, document.importNode(page.getElementById("now"), true));
    }
  } catch {
    // The backend is away; the next look will tell.
  }
  plan();
}

function plan(soon) {
  const busy = document.getElementById("now").dataset.busy === "yes";
  clearTimeout(timer);
  timer = setTimeout(look, soon ? 0 : busy ? BUSY_MS : IDLE_MS);
}

function take(shown, fresh) {
  if (fresh.dataset.stamp !== shown.dataset.stamp && !isAtWork()) {
    location.reload();
    return;
  }
  if (fresh.outerHTML === shown.outerHTML || shown.contains(document.activeElement)) {
    return;
  }
  if (fresh.dataset.said !== shown.dataset.said) {
    document.getElementById("said").textContent = fresh.dataset.said;
  }
  shown.querySelectorAll("details").forEach((one, at) => {
    const same = fresh.querySelectorAll("details")[at];
    if (same) {
      same.open = one.open;
    }
  });
  shown.replaceWith(fresh);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    plan(true);
  }
});
plan();
