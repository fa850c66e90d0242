// The tree of a trace: only what is in sight is in the page, so that five thousand spans scroll as
// ten do. After console.js, whose `all` and `load` it uses. Without it the server shows the spans in
// pages.
"use strict";

class Tree {
  constructor(box) {
    this.box = box;
    this.list = box.querySelector(".span-rows");
    const first = this.list.firstElementChild;
    if (!first) return;
    this.height = first.getBoundingClientRect().height;
    this.items = all(".span-row", this.list).map((row) => ({
      row, id: row.dataset.id, depth: Number(row.dataset.depth),
      children: row.dataset.children === "1", closed: false,
    }));
    this.chosen = this.items.findIndex((item) => item.row.hasAttribute("aria-current"));
    box.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()));
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => this.click(event));
    if (this.items.length < Number(box.dataset.total)) this.fetch(); else this.arrange();
  }

  async fetch() {
    const chosen = this.items[this.chosen]?.id;
    const pattern = this.items[0].row;
    const response = await fetch(this.box.dataset.all, { headers: { accept: "application/json" } });
    if (!response.ok) return;
    const { rows } = (await response.json()).page;
    this.items = rows.map((row) => ({
      id: row[0], depth: row[1], children: row[8] === 1, closed: false, data: row, pattern,
    }));
    this.chosen = this.items.findIndex((item) => item.id === chosen);
    document.querySelector("[data-tree-pages]")?.remove();
    this.arrange();
    this.reveal();
  }

  // Which items are shown, given what is closed.
  arrange() {
    this.shown = [];
    let under = Infinity;
    this.items.forEach((item, index) => {
      if (item.depth > under) return;
      under = item.closed ? item.depth : Infinity;
      this.shown.push(index);
    });
    this.draw(true);
  }

  draw(anew = false) {
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.height) - 20);
    const last = Math.min(
      this.shown.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + 20);
    if (!anew && first >= this.first && last <= this.last) return;
    this.first = Math.max(0, first - 20);
    this.last = Math.min(this.shown.length, last + 20);
    const rows = this.shown.slice(this.first, this.last).map((index) => this.row(index));
    this.list.style.paddingTop = `${this.first * this.height}px`;
    this.list.style.paddingBottom = `${(this.shown.length - this.last) * this.height}px`;
    const kept = new Set(rows);
    for (const row of [...this.list.children]) if (!kept.has(row)) row.remove();
    let place = this.list.firstElementChild;
    for (const row of rows) {
      if (row === place) place = place.nextElementSibling;
      else this.list.insertBefore(row, place);
    }
  }

  row(index) {
    const item = this.items[index];
    if (!item.row) item.row = this.make(item);
    item.row.tabIndex = -1;
    if (item.children) item.row.setAttribute("aria-expanded", !item.closed);
    if (index === this.chosen) item.row.setAttribute("aria-current", "true");
    else item.row.removeAttribute("aria-current");
    return item.row;
  }

  make(item) {
    const [id, depth, name, kind, left, width, time, failed, children, note] = item.data;
    const row = item.pattern.cloneNode(true);
    const swap = (address) => address.replaceAll(item.pattern.dataset.id, id);
    row.id = `span-${id}`;
    row.href = swap(item.pattern.getAttribute("href"));
    Object.assign(row.dataset, { id, depth, children, part: swap(item.pattern.dataset.part) });
    row.setAttribute("aria-level", depth + 1);
    row.classList.toggle("failed", failed === 1);
    row.removeAttribute("aria-expanded");
    const label = row.querySelector(".span-name");
    label.className = `span-name d${Math.min(depth, 20)}`;
    label.querySelector("b").textContent = name;
    label.querySelector("small").textContent = note;
    label.title = name;
    row.querySelector(".kind").className = `kind ${kind}`;
    const bar = row.querySelector("rect");
    bar.setAttribute("class", failed ? "bad" : `kind-${kind}`);
    bar.setAttribute("x", `${left}%`);
    bar.setAttribute("width", `${width}%`);
    row.querySelector(".span-time").textContent = time;
    return row;
  }

  reveal() {
    const place = this.shown.indexOf(this.chosen);
    if (place < 0) return;
    const top = place * this.height;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + this.height > this.box.scrollTop + this.box.clientHeight) {
      this.box.scrollTop = top + this.height - this.box.clientHeight;
    }
    this.draw();
  }

  choose(index, now = false) {
    if (index === undefined || index < 0 || index >= this.items.length) return;
    this.items[this.chosen]?.row?.removeAttribute("aria-current");
    this.chosen = index;
    const row = this.row(index);
    this.reveal();
    this.box.setAttribute("aria-activedescendant", row.id);
    clearTimeout(this.later);
    this.later = setTimeout(() => load(row), now ? 0 : 120);
  }

  fold(index, closed) {
    if (!this.items[index]?.children) return;
    this.items[index].closed = closed;
    this.arrange();
    this.reveal();
  }

  click(event) {
    const row = event.target.closest(".span-row");
    if (!row || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const index = this.items.findIndex((item) => item.id === row.dataset.id);
    if (event.target.closest(".twist")) this.fold(index, !this.items[index].closed);
    else this.choose(index, true);
    this.box.focus({ preventScroll: true });
  }

  key(event) {
    if (event.metaKey || event.ctrlKey || event.altKey || !this.shown) return;
    const place = this.shown.indexOf(this.chosen);
    const item = this.items[this.chosen];
    const page = Math.floor(this.box.clientHeight / this.height);
    const to = (where) => this.choose(this.shown[Math.max(0, Math.min(this.shown.length - 1, where))]);
    const acts = {
      ArrowDown: () => to(place + 1), j: () => to(place + 1), ArrowUp: () => to(place - 1),
      k: () => to(place - 1), PageDown: () => to(place + page), PageUp: () => to(place - page),
      Home: () => to(0), End: () => to(this.shown.length - 1),
      ArrowRight: () => item?.closed ? this.fold(this.chosen, false) : to(place + 1),
      ArrowLeft: () => {
        if (item?.children && !item.closed) return this.fold(this.chosen, true);
        let up = this.chosen;
        while (up > 0 && this.items[up].depth >= (item?.depth ?? 0)) up -= 1;
        return this.choose(up);
      },
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }
}

for (const box of all("[data-tree]")) new Tree(box);
