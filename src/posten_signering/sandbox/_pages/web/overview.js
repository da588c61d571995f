// Keeps the overview up to date: by server-sent events, or by polling while the events do not arrive.

import { address, selected } from "/web/overview-address.js";
import { element, replace, shownTime, text, tick } from "/web/overview-dom.js";
import * as parts from "/web/overview-parts.js";

const POLL_INTERVAL = 2000; // milliseconds
const DATA = "/overview/data";
const EVENTS = "/control/events";

const place = (name) => document.querySelector(`[data-${name}]`);
const filter = place("filter");
const shown = new Map();
let ahead = 0;
let fetching = false;
let fetchAgain = false;
let stale = true;
let scrollTo = location.hash;

const now = () => Date.now() + ahead;

const live = (state, name) => {
  const indicator = place("live");
  indicator.dataset.live = state;
  if (indicator.textContent !== text(name)) indicator.textContent = text(name);
};

// Changes the page, and keeps what the reader sees where it is when the content above changes its height.
const steadily = (change) => {
  const sections = [...document.querySelectorAll("main > section")];
  const seen =
    sections.find((section) => section.getBoundingClientRect().bottom > 0) ?? sections.at(-1);
  const top = seen.getBoundingClientRect().top;
  change();
  scrollBy(0, seen.getBoundingClientRect().top - top);
};

const say = (words) =>
  steadily(() => {
    place("result").textContent = words;
    place("wrong").textContent = "";
  });

// The control API explains its errors in English, also on a page in bokmål.
const complain = (words, lang = null) =>
  steadily(() => {
    place("result").textContent = "";
    place("wrong").replaceChildren(element("span", { lang }, words));
  });

// Shows what these parameters of the address select, as a link with this address would.
const go = (parameters, hash = "") => {
  const target = address(parameters) + hash;
  const present = location.pathname + location.search + location.hash;
  if (target !== present) history.pushState(null, "", target);
  scrollTo = hash;
  fillFilter();
  refresh();
};

const fillFilter = () => {
  for (const control of filter.elements) control.value = selected(control.name);
};

const offerOrganizations = (numbers) => {
  const select = filter.elements.organization;
  const chosen = selected("organization");
  const offered = [...new Set(chosen === "" ? numbers : [...numbers, chosen])].sort();
  const present = [...select.options].slice(1).map((option) => option.value);
  if (String(offered) === String(present)) return;
  const options = offered.map((number) => element("option", {}, number));
  select.replaceChildren(select.options[0], ...options);
  select.value = chosen;
};

const draw = (overview) => {
  ahead = new Date(overview.now) - Date.now();
  const day = overview.now.slice(0, 10);
  offerOrganizations(overview.organizations);
  for (const link of document.querySelectorAll("header [hreflang]")) {
    link.href = address({ lang: link.hreflang }) + location.hash;
  }
  steadily(() => {
    for (const [name, make] of Object.entries(parts)) {
      // A part is redrawn only when its data has changed, so that it does not disturb the reader.
      const own = Object.entries(overview).filter(([key]) => key.startsWith(name));
      const data = JSON.stringify([day, location.search, own]);
      if (shown.get(name) === data) continue;
      shown.set(name, data);
      const nodes = make(overview, act, go).filter((node) => node !== null);
      replace(document.querySelector(`[data-part="${name}"]`), ...nodes);
    }
    const advanced = Math.round(overview.advanced_by);
    place("advanced").textContent = advanced === 0 ? "" : text("advanced", { seconds: advanced });
    everySecond();
  });
  // The page had its full height only now, so the browser could not find the place itself.
  if (scrollTo !== "") document.getElementById(scrollTo.slice(1))?.scrollIntoView();
  scrollTo = "";
};

// The state of the sandbox; null when the sandbox does not respond.
const fetchOverview = async () => {
  const query = new URLSearchParams(location.search);
  query.delete("lang");
  try {
    const answer = await fetch(`${DATA}?${query}`, { headers: { Accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
};

const refresh = async () => {
  fetchAgain = fetching;
  if (fetching) return;
  fetching = true;
  const { search } = location;
  const overview = await fetchOverview();
  fetching = false;
  stale = overview === null;
  if (stale) live("no", "silent");
  // What was fetched for an earlier selection is not shown.
  else if (search === location.search) {
    draw(overview);
    if (source.readyState === EventSource.OPEN) live("yes", "live");
    else live("asking", "asking");
  }
  if (fetchAgain) await refresh();
};

const everySecond = () => {
  const present = new Date(now());
  const clock = place("now");
  clock.dateTime = present.toISOString();
  clock.textContent = shownTime(present, present);
  tick(present);
};

// The request to the control API for each action: method, path, body.
const REQUESTS = {
  act: ({ job, signer, act }) => ["POST", `jobs/${job}/signers/${signer}/${act}`],
  expire: ({ job }) => ["POST", `jobs/${job}/expire`],
  delete: ({ job }) => ["DELETE", `jobs/${job}/documents`],
  end_lease: ({ job, change }) => ["POST", `jobs/${job}/changes/${change}/end-lease`],
  inject: ({ fault }) => ["POST", "faults", fault],
  remove_fault: ({ fault }) => ["DELETE", `faults/${fault}`],
  clear_faults: () => ["DELETE", "faults"],
  advance: ({ seconds }) => ["POST", "advance", { seconds }],
  reset: () => ["POST", "reset"],
};

const act = async (request) => {
  const [method, path, body] = REQUESTS[request.name](request);
  try {
    const answer = await fetch(`/control/${path}`, {
      method,
      headers: { Accept: "application/json", "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!answer.ok) complain((await answer.json()).error, "en");
    else say(text(`done_${request.act ?? request.name}`, request));
  } catch {
    complain(text("silent"));
  }
  await refresh();
};

for (const button of document.querySelectorAll("[data-advance]")) {
  const seconds = Number(button.dataset.advance);
  button.addEventListener("click", () => act({ name: "advance", seconds }));
}
place("reset").addEventListener("click", () => {
  if (confirm(text("confirm_reset"))) act({ name: "reset" });
});

filter.addEventListener("change", ({ target }) => go({ [target.name]: target.value.trim(), page: "" }));
filter.addEventListener("submit", (event) => event.preventDefault());
addEventListener("popstate", () => {
  fillFilter();
  refresh();
});

const form = place("inject");

// Each kind of fault takes some of the fields. The other fields are hidden.
const fitFields = () => {
  const taken = form.elements.kind.selectedOptions[0].dataset.takes.split(" ");
  for (const field of form.querySelectorAll("[data-field]")) {
    const fits = taken.includes(field.dataset.field);
    field.hidden = !fits;
    field.querySelector("input").disabled = !fits;
  }
};

form.elements.kind.addEventListener("change", fitFields);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const fault = {};
  for (const input of form.elements) {
    if (!input.name || input.disabled) continue;
    if (input.type === "checkbox") fault[input.name] = input.checked;
    else if (input.value !== "") {
      fault[input.name] = input.type === "number" ? input.valueAsNumber : input.value;
    }
  }
  act({ name: "inject", fault, kind: fault.kind });
});
fitFields();

fillFilter();
const source = new EventSource(EVENTS);
source.addEventListener("open", refresh);
source.addEventListener("change", refresh);
source.addEventListener("error", refresh);
setInterval(everySecond, 1000);
setInterval(() => {
  if (stale || source.readyState !== EventSource.OPEN) refresh();
}, POLL_INTERVAL);
refresh();
