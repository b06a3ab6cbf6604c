// Keeps an open page up to date. Everything works without it.
"use strict";

const body = document.body;
const live = () => document.querySelectorAll("[data-live][id]");

// The page is asked for again as it is, and only what says so is exchanged: nobody loses what they
// are typing, and what is folded out stays so.
async function refresh() {
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) return ended();
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of live()) {
    const found = fresh.getElementById(old.id);
    if (found && found.innerHTML !== old.innerHTML) {
      old.replaceChildren(...found.childNodes);
    }
  }
  body.dataset.size = fresh.body.dataset.size;
}

function ended() {
  source.close();
  const state = document.getElementById("live-state");
  state.textContent = state.dataset.ended;
}

let source = { close() {} };
if (live().length) {
  source = new EventSource("/console/live");
  source.addEventListener("log", (event) => {
    if (event.data !== body.dataset.size) refresh().catch(() => {});
  });
  source.addEventListener("ended", ended);
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) ended();
  });
}
