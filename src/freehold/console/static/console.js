// What pages do beside what links and forms do. Without it everything works but live tails.
// Markup from our own server is put in as it is: it was escaped there, and scripts in it do not run.
"use strict";

const ROWS_MAX = 300; // of a live list
const RETRY_MS = [500, 1000, 2000, 5000, 10000];

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const element = (html) => {
  const holder = document.createElement("template");
  holder.innerHTML = html.trim();
  return holder.content.firstElementChild;
};
const typing = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;

// Each whole line of an answer, as it comes.
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const line of parts) if (line.trim()) yield JSON.parse(line);
    }
    if (rest.trim()) yield JSON.parse(rest);
  } finally {
    reader.cancel().catch(() => {});
  }
}

// What a refusal says.
const said = (response) => response.json().then((body) => body.error.message)
  .catch(() => `The platform answered with ${response.status}.`);

// -- copying

const enhance = (within) => {
  for (const button of all("[data-copy]", within)) button.hidden = !navigator.clipboard;
  for (const time of all("time[datetime]", within)) {
    const at = new Date(time.dateTime);
    if (!time.dataset.local && !isNaN(at)) {
      time.dataset.local = "1";
      time.title += `\n${at.toLocaleString()} here`;
    }
  }
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.closest(".viewer").querySelector("pre").textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

// -- a link whose answer takes the place of one part of the page

let loading = null;

async function load(link) {
  loading?.abort();
  const mine = (loading = new AbortController());
  const goal = document.getElementById(link.dataset.into);
  if (!goal) return false;
  goal.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(link.dataset.part, {
      headers: { accept: "text/html" }, signal: mine.signal,
    });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const part = page.getElementById(link.dataset.into) || page.querySelector("main > section");
    if (!part) throw new Error("the answer has no such part");
    part.id = link.dataset.into;
    goal.replaceWith(document.adoptNode(part));
    enhance(part);
    history.replaceState(null, "", link.href);
  } catch (error) {
    if (error.name === "AbortError") return true;
    location.href = link.href;
  }
  return true;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-part]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey ||
      event.shiftKey || !document.getElementById(link.dataset.into)) return;
  event.preventDefault();
  load(link);
});

// -- a list that goes on: JSON lines of {id, html}, newest on top

class Live {
  constructor(body) {
    this.body = body;
    this.button = document.querySelector(`[data-live-switch="${body.closest("table").id}"]`);
    if (!this.button) return;
    this.button.hidden = false;
    this.button.addEventListener("click", () => this.turn(!this.on));
    if (new URLSearchParams(location.search).get("live") === "1") this.turn(true);
  }

  turn(on) {
    this.on = on;
    this.button.setAttribute("aria-pressed", on);
    const address = new URL(location.href);
    if (on) address.searchParams.set("live", "1"); else address.searchParams.delete("live");
    history.replaceState(null, "", address);
    if (on) this.follow(); else this.abort?.abort();
  }

  async follow() {
    for (let tries = 0; this.on; tries += 1) {
      this.abort = new AbortController();
      try {
        const response = await fetch(this.body.dataset.live, {
          headers: { accept: "application/json" }, signal: this.abort.signal,
        });
        if (!response.ok) {
          if (response.status < 500 && response.status !== 429) {
            this.say(await said(response));
            return this.turn(false);
          }
          throw new Error(response.status);
        }
        this.say("Live");
        for await (const line of lines(response)) {
          tries = 0;
          if (line.html) this.put(line);
        }
      } catch (error) {
        if (!this.on || error.name === "AbortError") break;
      }
      this.say("Connecting again …");
      await new Promise((go) => setTimeout(go, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]));
    }
    this.say("Live");
  }

  put(line) {
    const row = element(`<table><tbody>${line.html}</tbody></table>`).querySelector("tr");
    const before = document.getElementById(line.id);
    row.id = line.id;
    if (before) {
      before.replaceWith(row);
    } else {
      row.classList.add("new");
      this.body.prepend(row);
      document.querySelector("[data-live-empty]")?.remove();
    }
    enhance(row);
    while (this.body.rows.length > ROWS_MAX) this.body.lastElementChild.remove();
  }

  say(text) {
    this.button.querySelector("span").textContent = text;
  }
}

// -- a form whose answer is shown as it comes: JSON lines of {text} or {html}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.stream) return;
  event.preventDefault();
  const goal = document.getElementById(form.dataset.stream);
  const text = goal.querySelector("pre code");
  const foot = goal.querySelector("[data-foot]");
  const button = event.submitter || form.querySelector("button");
  goal.hidden = false;
  text.textContent = "";
  foot.replaceChildren();
  button.disabled = true;
  try {
    const response = await fetch(form.dataset.streamAction, {
      method: "POST", headers: { accept: "application/json" },
      body: new URLSearchParams(new FormData(form)),
    });
    if (!response.ok) throw new Error(await said(response));
    for await (const line of lines(response)) {
      if (line.text) text.append(line.text);
      if (line.html) foot.append(element(line.html));
    }
  } catch (error) {
    foot.append(element('<p class="note bad" role="alert"><span></span></p>'));
    foot.querySelector(".note span").textContent = error.message;
  } finally {
    button.disabled = false;
  }
});

// -- keys: "/" to the filters, j and k through the rows of a list, arrows through steps

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey ||
      typing(event.target)) return;
  if (event.key === "/") {
    const field = document.querySelector(".filters input:not([type=hidden])");
    if (field) { event.preventDefault(); field.focus(); field.select(); }
  } else if (event.key === "j" || event.key === "k") {
    const links = all("[data-rows] tr").map((row) => row.querySelector("a")).filter(Boolean);
    const here = links.indexOf(document.activeElement);
    const next = event.key === "j" ? here + 1 : Math.max(0, here - 1);
    links[Math.min(next, links.length - 1)]?.focus();
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const step = event.key === "ArrowLeft" ? "prev" : "next";
    if (!event.target.closest("pre, .scrolls, .tree")) {
      document.querySelector(`a[data-step="${step}"]`)?.click();
    }
  }
});

enhance(document);
for (const body of all("tbody[data-live]")) new Live(body);
