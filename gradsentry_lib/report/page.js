"use strict";
// The workbench: rows to look at, decided one by one, by group or all that a filter shows. All text is written as text
// nodes. Decisions gather here and are saved as decisions.json; served by `gradsentry review` they are sent at once.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const bench = document.getElementById("workbench");
  if (!bench) return;
  const rows = data.rows.slice();
  rows.length = data.listed; // holes are asked for when they are looked at
  if (!data.served) rows.length = data.rows.length;
  const canDecide = !data.redacted && (!data.served || data.by !== "");
  const kept = "gradsentry " + data.page;
  let decisions = [];
  try { if (!data.served) decisions = JSON.parse(localStorage.getItem(kept) || "[]"); } catch { decisions = []; }
  let view = [], at = 0, wholeGroup = false, whole = false, pending = null, own = new Map();
  const page = 400; // rows asked for at a time

  // Making elements.
  const make = (tag, attributes, ...inside) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...inside);
    return element;
  };
  const number = (n) => n.toLocaleString("en-US");
  const say = (text) => { document.getElementById("said").textContent = text; };
  const pieces = (cut) => cut.map((piece) =>
    typeof piece === "string" ? document.createTextNode(piece)
    : typeof piece === "number" ? make("span", { class: "cut-note" }, `… ${number(piece)} more characters …`)
    : make("mark", { class: piece[0] === "t" ? "trigger" : "payload" }, piece[1]));
  const plain = (row, judged) => row.turns.filter((turn) => !!turn[1] === judged)
    .map((turn) => turn[2].map((p) => typeof p === "string" ? p : Array.isArray(p) ? p[1] : "…").join("")).join(" / ");

  // What is known of a row.
  const word = (row) => own.get(row.id) || data.words[row.id];
  const waiting = (row) => !word(row);
  const state = (row) => row.v === "unscored" ? "unscored" : row.w ? "watched" : row.v;
  const group = (row) => row.g >= 0 ? data.groups[row.g] : null;
  const lower = new WeakMap();
  const text = (row) => {
    if (!lower.has(row)) {
      lower.set(row, [row.r, row.id, plain(row, false), plain(row, true), ...(row.why || [])].join("\n").toLowerCase());
    }
    return lower.get(row);
  };

  // The tools above the list.
  const select = (name, label, options) => {
    const field = make("select", { id: name }, ...options.map(([value, said]) => make("option", { value }, said)));
    return [field, make("label", { for: name }, label, field)];
  };
  const search = make("input", { type: "search", id: "find", placeholder: "text, row number or sample id", autocomplete: "off" });
  const [verdict, verdictLabel] = select("verdict", "Verdict", [["", "all"], ["flagged", "flagged"], ["watched", "watched"], ["unscored", "unscored"], ["clean", "clean by a person's word"]]);
  const [groups, groupsLabel] = select("group", "Group", [["", "all"], ...data.groups.map((g, i) => [String(i), `${g.name} (${number(g.rows)})${g.watched ? ", watched" : ""}`]), ["-1", "in no group"]]);
  const [decided, decidedLabel] = select("decided", "Decision", [["", "all"], ["waiting", "waiting"], ["release", "released"], ["flag", "kept out"]]);
  const [sort, sortLabel] = select("sort", "Order", [["", "new first, by group"], ["row", "row number"], ["entropy", "highest entropy"], ["length", "longest answer"], ["nll", "most surprising answer"]]);
  const tally = make("p", { class: "tally" });
  const tools = make("div", { class: "tools", role: "search", "aria-label": "Which rows" },
    make("label", { for: "find" }, "Search", search), verdictLabel, groupsLabel, decidedLabel, sortLabel);
  const spacer = make("div", { class: "spacer", role: "presentation" });
  const list = make("div", { class: "list", role: "listbox", tabindex: "0", id: "list", "aria-label": "Rows, j and k to move" }, spacer);
  const detail = make("div", { class: "detail", role: "region", "aria-label": "The row", tabindex: "0" });
  const reason = make("input", { id: "reason", type: "text", autocomplete: "off", placeholder: "why (kept for the next decisions)" });
  const [scope, scopeLabel] = select("scope", "Counts", [["all", "for this text in every batch"], ["batch", "in this batch only"]]);
  const button = (said, key, act, extra) => {
    const made = make("button", { type: "button", "aria-keyshortcuts": key, ...extra }, said + " ", make("kbd", {}, key));
    made.addEventListener("click", act);
    return made;
  };
  const toGroup = button("Whole group", "g", () => toggleGroup(), { "aria-pressed": "false" });
  const bar = make("div", { class: "decide", role: "group", "aria-label": "Decide" },
    make("label", { for: "reason", class: "wide" }, "Reason", reason), scopeLabel,
    button("Release", "r", () => decide("release")), button("Keep out", "f", () => decide("flag")), toGroup,
    button("All shown, release", "R", () => decideShown("release")), button("All shown, keep out", "F", () => decideShown("flag")),
    button("Undo", "u", () => undo()));
  if (!data.served) bar.append(button("Save decisions.json", "s", () => save()));
  const help = make("p", { class: "note keys" },
    "Keys: ", ...["j next", "k previous", "n next that waits", "r release", "f keep out", "g whole group on or off", "e change the reason", "u undo", "w whole text", "/ search", ...(data.served ? [] : ["s save"])]
      .flatMap((told) => { const [key, ...rest] = told.split(" "); return [make("kbd", {}, key), ` ${rest.join(" ")}  `]; }));
  bench.append(tools, tally, make("div", { class: "panes" }, list, detail));
  if (canDecide) bench.append(bar);
  else bench.append(make("p", { class: "note" }, data.redacted ? "A redacted page takes no decisions." : "Read-only: start `gradsentry review --by NAME` to decide."));
  bench.append(help);
  bench.hidden = false;

  // Rows that are not here yet.
  const asked = new Map();  // first row -> the promise of its page: who asks again waits for the same answer
  const load = async (from) => {
    try {
      const answer = await fetch(`${location.pathname}/rows?from=${from}&count=${page}`, { headers: { "X-Gradsentry": data.token } });
      if (!answer.ok) throw new Error(answer.statusText);
      (await answer.json()).forEach((row, i) => { rows[from + i] = row; });
    } catch {
      say("Rows can't be loaded: is the server still running?");
      setTimeout(() => asked.delete(from), 3000);
    }
  };
  const ask = (from) => { if (!asked.has(from)) asked.set(from, load(from)); return asked.get(from); };
  const missing = () => { const found = []; for (let i = 0; i < rows.length; i += 1) if (!(i in rows)) { const from = i - (i % page); if (!found.includes(from)) found.push(from); } return found; };
  const loadAll = async () => { for (const from of missing()) await ask(from); };

  // Which rows, in which order.
  const filtered = () => search.value.trim() || verdict.value || groups.value || decided.value || sort.value;
  const refresh = async (keep) => {
    const current = keep === undefined ? view[at] : keep;
    if (filtered()) await loadAll();
    own = new Map();
    for (const d of decisions) for (const id of d.samples) {
      if (d.action === "unset") own.delete(id);
      else own.set(id, [d.action, data.by || "you", "now", d.reason, d.scope]);
    }
    if (!filtered()) view = Array.from({ length: rows.length }, (_, i) => i);
    else {
      const wanted = search.value.trim().toLowerCase();
      view = [];
      rows.forEach((row, i) => {
        const said = word(row);
        if (verdict.value && state(row) !== verdict.value) return;
        if (groups.value && String(row.g) !== groups.value) return;
        if (decided.value === "waiting" && said) return;
        if (decided.value && decided.value !== "waiting" && (!said || said[0] !== decided.value)) return;
        if (wanted && !text(row).includes(wanted)) return;
        view.push(i);
      });
      const by = { row: (a, b) => a.r - b.r, entropy: (a, b) => (b.e ?? -1) - (a.e ?? -1), length: (a, b) => (b.t || 0) - (a.t || 0), nll: (a, b) => (b.n ?? -1) - (a.n ?? -1) }[sort.value];
      if (by) view.sort((a, b) => by(rows[a], rows[b]));
    }
    at = Math.max(0, view.indexOf(current));
    let left = 0, here = 0;
    rows.forEach((row) => { here += 1; if (waiting(row)) left += 1; });
    tally.textContent = `${number(view.length)} of ${number(rows.length)} rows; ${number(left)} wait for a decision` +
      (here < rows.length ? ` among the ${number(here)} loaded` : "") +
      (!data.served && decisions.length ? `; ${number(own.size)} decided here, ${decisions.saved ? "saved" : "not saved yet"}` : "") + ".";
    document.querySelectorAll("[data-decided]").forEach((place) => {
      const mine = rows.filter((row) => row.g === Number(place.dataset.decided));
      const done = mine.filter((row) => word(row));
      place.textContent = done.length ? `${number(done.length)} of ${number(mine.length)} decided` : "";
    });
    show();
  };

  // The list: only what is in sight is in the document.
  const height = () => 3.5 * parseFloat(getComputedStyle(document.documentElement).fontSize);
  const draw = () => {
    const high = height();
    spacer.style.height = `${view.length * high}px`;
    const first = Math.max(0, Math.floor(list.scrollTop / high) - 4);
    const last = Math.min(view.length, Math.ceil((list.scrollTop + list.clientHeight) / high) + 4);
    const made = [];
    for (let place = first; place < last; place += 1) made.push(option(place, high));
    spacer.replaceChildren(...made);
    const absent = [...new Set(view.slice(first, last).filter((i) => !(i in rows)).map((i) => i - (i % page)))];
    const unasked = absent.filter((from) => !asked.has(from));  // the others draw when they come
    if (unasked.length) Promise.all(unasked.map(ask)).then(() => { draw(); showDetail(); });
    if (document.getElementById(`row-${at}`)) list.setAttribute("aria-activedescendant", `row-${at}`);
    else list.removeAttribute("aria-activedescendant");
  };
  const option = (place, high) => {
    const row = rows[view[place]];
    const item = make("div", { role: "option", id: `row-${place}`, class: "item", "aria-selected": place === at ? "true" : "false", "aria-posinset": place + 1, "aria-setsize": view.length });
    item.style.top = `${place * high}px`;
    item.addEventListener("click", () => { at = place; show(); });
    if (!row) { item.append("loading …"); return item; }
    const said = word(row), of = group(row);
    item.append(
      make("span", { class: "head" }, make("b", {}, `Row ${number(row.r)}`), of ? make("span", { class: "letter" }, of.name) : "",
        make("span", { class: `badge ${state(row)}` }, state(row)), row.new ? make("span", { class: "badge new" }, "new") : "",
        said ? make("span", { class: `badge said ${said[0]}` }, said[0] === "release" ? "released" : "kept out") : ""),
      make("bdi", { class: "line" }, `${plain(row, false).slice(-160)} → ${plain(row, true).slice(0, 160)}`));
    return item;
  };
  const turns = (row, judged) => row.turns.filter((turn) => !!turn[1] === judged).map(([role, , cut]) =>
    make("div", { class: "said" }, make("span", { class: "role" }, role), make("bdi", { class: whole ? "text whole" : "text", dir: "auto", tabindex: "0", role: "group", "aria-label": role || "turns" }, ...pieces(cut))));
  const sides = (row) => make("div", { class: "sides" },
    make("div", {}, make("h4", {}, "Prompt"), ...turns(row, false)), make("div", {}, make("h4", {}, "Answer"), ...turns(row, true)));
  const showDetail = () => {
    const row = rows[view[at]];
    if (!row) { detail.replaceChildren(make("p", {}, view.length ? "loading …" : "No row matches.")); return; }
    const said = word(row), of = group(row);
    const made = [make("h3", {}, `Row ${number(row.r)}`, row.l ? make("small", {}, ` line ${number(row.l)}`) : "", of ? make("span", { class: "letter" }, of.name) : "")];
    if (said) {
      const [action, by, when, why, where] = said;
      made.push(make("p", { class: "word" }, `${action === "release" ? "Released" : "Kept out"} ${when === "now" ? "now" : "on " + when} by `, make("bdi", {}, by), " because ", make("bdi", {}, why), where === "all" ? " (every batch)" : " (this batch)"));
    }
    if (row.new) made.push(make("p", { class: "note" }, "New since the last review of this source."));
    made.push(make("ul", { class: "reasons" }, ...(row.why || []).map((why) => make("li", {}, make("bdi", {}, why)))));
    made.push(sides(row));
    if (row.turns.some((turn) => turn[2].some((piece) => typeof piece === "number"))) {
      if (data.served) made.push(button("Load the whole text", "w", () => toggleWhole()));
      else made.push(make("p", { class: "note" }, "The whole text: ", make("code", {}, `gradsentry audit ${row.id.slice(0, 12)}`)));
    }
    const figures = [["entropy", row.e], ["tokens", row.t], ["NLL", row.n]].filter(([, value]) => value !== null && value !== undefined);
    made.push(make("dl", { class: "figures" }, ...figures.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value))))));
    if (row.near) made.push(make("details", { class: "near", open: true }, make("summary", {}, `For comparison: the clean row that asks the most alike thing, row ${number(row.near.r)}`), sides(row.near)));
    made.push(make("p", { class: "id" }, `sample ${row.id}`));
    detail.replaceChildren(...made);
  };
  const show = () => {
    const high = height(), top = at * high;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + high > list.scrollTop + list.clientHeight) list.scrollTop = top + high - list.clientHeight;
    draw();
    showDetail();
    toGroup.setAttribute("aria-pressed", wholeGroup ? "true" : "false");
  };
  const move = (by) => { at = Math.min(Math.max(at + by, 0), Math.max(view.length - 1, 0)); show(); };
  const toNext = () => {
    for (let step = 1; step <= view.length; step += 1) {
      const place = (at + step) % view.length, row = rows[view[place]];
      if (row && waiting(row)) { at = place; show(); return; }
    }
    show();
  };
  const toggleGroup = () => { wholeGroup = !wholeGroup; say(wholeGroup ? "The next decision is for the whole group" : "The next decision is for this row"); show(); };
  const toggleWhole = async () => {
    whole = !whole;
    const row = rows[view[at]];
    if (whole && data.served && row && row.turns.some((turn) => turn[2].some((piece) => typeof piece === "number"))) {
      const answer = await fetch(`${location.pathname}/text?row=${row.r}`, { headers: { "X-Gradsentry": data.token } });
      if (answer.ok) row.turns = await answer.json();
    }
    showDetail();
  };

  // Deciding.
  const decide = async (action, of) => {
    const row = rows[view[at]];
    let chosen = row ? [row] : [], what = row ? `row ${row.r}` : "";
    const number_ = of !== undefined ? of : wholeGroup && row && row.g >= 0 ? row.g : null;
    if (number_ !== null) {
      await loadAll();
      chosen = rows.filter((each) => each.g === number_);
      what = `group ${data.groups[number_].name}`;
    }
    await put(action, chosen, what, () => decide(action, of));
  };
  const decideShown = async (action) => {
    await loadAll();
    const named = [search.value.trim() && `search ${JSON.stringify(search.value.trim())}`, verdict.value, groups.value && `group ${groups.value === "-1" ? "none" : data.groups[groups.value].name}`, decided.value].filter(Boolean);
    await put(action, view.map((i) => rows[i]), `filter: ${named.join(", ") || "all"}`, () => decideShown(action));
  };
  const put = async (action, chosen, what, again) => {
    if (!canDecide || !chosen.length) return;
    const why = reason.value.trim();
    if (!why) { pending = again; say("Say why first, then press Enter"); reason.focus(); return; }
    const samples = [...new Set(chosen.map((row) => row.id))].filter((id) => { const said = own.get(id) || data.words[id]; return !said || said[0] !== action || said[3] !== why; });
    pending = null;
    wholeGroup = false;
    if (samples.length) {
      const made = { action, scope: scope.value, reason: why, what, samples };
      if (data.served && !await send(made)) return;
      decisions.push(made);
      decisions.saved = false;
      remember();
    }
    const current = view[at];
    await refresh(current);
    say(`${number(samples.length)} rows ${action === "release" ? "released" : "kept out"}`);
    toNext();
  };
  const undo = async () => {
    const last = decisions[decisions.length - 1];
    if (!last) { say("Nothing to undo"); return; }
    if (data.served && !await send({ ...last, action: "unset", reason: `undone: ${last.reason}`, what: `undo of ${last.what}` })) return;
    decisions.pop();
    remember();
    await refresh();
    say("Undone");
  };
  const send = async (made) => {
    const answer = await fetch(`${location.pathname}/decide`, { method: "POST", headers: { "Content-Type": "application/json", "X-Gradsentry": data.token }, body: JSON.stringify(decisionFile([made])) });
    const told = await answer.json().catch(() => ({ error: "the server does not answer" }));
    if (!answer.ok) { say(told.error); tally.textContent = told.error; return false; }
    data.words_digest = told.words_digest;
    data.seq = told.seq;
    return true;
  };
  const remember = () => { try { if (!data.served) localStorage.setItem(kept, JSON.stringify(decisions)); } catch { /* a page without storage forgets */ } };

  // decisions.json: each decision and the whole carry a digest, so that an edited file is told from the page's own.
  const decisionFile = (list_) => {
    const made = list_.map((d, i) => ({ ...d, sha256: sha256(JSON.stringify([data.page, i, d.action, d.scope, d.reason, d.what, d.samples])) }));
    const head = { format: "gradsentry decisions 1", batch: data.batch, decision: data.decision, verdicts_sha256: data.verdicts_sha256, words_digest: data.words_digest, seq: data.seq, page: data.page };
    const whole_ = [head.format, head.batch, head.decision, head.verdicts_sha256, head.words_digest, head.seq, head.page, made.map((d) => d.sha256)];
    return { ...head, decisions: made, sha256: sha256(JSON.stringify(whole_)) };
  };
  const save = () => {
    if (!decisions.length) { say("Nothing is decided yet"); return; }
    const blob = new Blob([JSON.stringify(decisionFile(decisions), null, 1) + "\n"], { type: "application/json" });
    const link = make("a", { href: URL.createObjectURL(blob), download: "decisions.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    decisions.saved = true;
    refresh();
    say("Saved. Now: gradsentry review apply decisions.json --by NAME");
  };
  const sha256 = (said) => {
    const bytes = new TextEncoder().encode(said), length = bytes.length;
    const padded = new Uint8Array(((length + 8) >> 6) * 64 + 64);
    padded.set(bytes);
    padded[length] = 0x80;
    const view_ = new DataView(padded.buffer);
    view_.setUint32(padded.length - 8, Math.floor(length / 0x20000000));
    view_.setUint32(padded.length - 4, (length << 3) >>> 0);
    const primes = [];
    for (let n = 2; primes.length < 64; n += 1) if (primes.every((p) => n % p)) primes.push(n);
    const part = (x) => ((x - Math.floor(x)) * 0x100000000) | 0;
    const k = primes.map((p) => part(Math.cbrt(p))), h = primes.slice(0, 8).map((p) => part(Math.sqrt(p))), w = new Int32Array(64);
    const turn = (x, n) => (x >>> n) | (x << (32 - n));
    for (let block = 0; block < padded.length; block += 64) {
      for (let i = 0; i < 16; i += 1) w[i] = view_.getInt32(block + 4 * i);
      for (let i = 16; i < 64; i += 1) {
        const a = w[i - 15], b = w[i - 2];
        w[i] = (w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ (a >>> 3)) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ (b >>> 10))) | 0;
      }
      const s = h.slice();
      for (let i = 0; i < 64; i += 1) {
        const one = (s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i]) | 0;
        const two = ((turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]))) | 0;
        s.unshift((one + two) | 0);
        s[4] = (s[4] + one) | 0;
        s.pop();
      }
      s.forEach((value, i) => { h[i] = (h[i] + value) | 0; });
    }
    return h.map((value) => (value >>> 0).toString(16).padStart(8, "0")).join("");
  };

  // What is pressed and clicked.
  const keys = { j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1), n: toNext, w: toggleWhole, "/": () => search.focus(),
    Home: () => move(-view.length), End: () => move(view.length), PageDown: () => move(8), PageUp: () => move(-8) };
  const deciding = { r: () => decide("release"), f: () => decide("flag"), R: () => decideShown("release"), F: () => decideShown("flag"), g: toggleGroup, u: undo, e: () => { reason.focus(); reason.select(); } };
  if (!data.served) deciding.s = save;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input, select, textarea");
    if (field) {
      if (event.key === "Escape") { pending = null; list.focus(); }
      if (event.key === "Enter" && field === reason) { event.preventDefault(); list.focus(); if (pending) pending(); }
      if (event.key === "Enter" && field === search) { event.preventDefault(); list.focus(); }
      return;
    }
    const moves = event.key.length > 1;
    if (moves && event.target !== list) return; // arrows scroll what they are in
    const act = keys[event.key] || (canDecide && deciding[event.key]);
    if (act) { event.preventDefault(); act(); }
  });
  for (const field of [verdict, groups, decided, sort]) field.addEventListener("change", () => refresh());
  let soon = 0;
  search.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(() => refresh(), 120); });
  list.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", draw);
  addEventListener("beforeunload", (event) => { if (!data.served && decisions.length && !decisions.saved) event.preventDefault(); });
  document.querySelectorAll("[data-do]").forEach((button_) => button_.addEventListener("click", () => {
    const of = Number(button_.dataset.group);
    if (button_.dataset.do === "show") { groups.value = String(of); refresh().then(() => { bench.scrollIntoView(); list.focus(); }); } else decide(button_.dataset.do, of);
  }));
  document.querySelectorAll(".actions").forEach((actions) => {
    actions.hidden = false;
    if (!canDecide) actions.querySelectorAll("[data-do=flag], [data-do=release]").forEach((each) => { each.hidden = true; });
  });
  addEventListener("beforeprint", () => {
    const printed = make("div", { class: "printed" }, ...rows.slice(0, 200).filter(Boolean).map((row) => make("article", { class: "row" }, make("h3", {}, `Row ${number(row.r)}: ${state(row)}`), sides(row))));
    bench.append(printed);
    addEventListener("afterprint", () => printed.remove(), { once: true });
  });
  refresh();
})();
