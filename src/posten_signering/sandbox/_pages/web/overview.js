// Keeps the overview up to date: by server-sent events, or by polling while the events do not arrive.

import { replace, shownTime, tick } from "/web/overview-dom.js";
import * as parts from "/web/overview-parts.js";

const POLL_INTERVAL = 2000; // milliseconds
const OVERVIEW = "/control/overview";
const EVENTS = "/control/events";

const place = (name) => document.querySelector(`[data-${name}]`);
const shown = new Map();
const expanded = new Set();
let ahead = 0;
let fetching = false;
let fetchAgain = false;
let stale = true;

const now = () => Date.now() + ahead;

const live = (state, text) => {
  const indicator = place("live");
  indicator.dataset.live = state;
  if (indicator.textContent !== text) indicator.textContent = text;
};

const say = (text, wrong = false) => {
  place("result").textContent = wrong ? "" : text;
  place("wrong").textContent = wrong ? text : "";
};

const showAll = (name) => {
  expanded.add(name);
  shown.delete(name);
  refresh();
};

const draw = (overview) => {
  ahead = new Date(overview.now) - Date.now();
  const day = overview.now.slice(0, 10);
  for (const [name, make] of Object.entries(parts)) {
    // A part is redrawn only when its data has changed, so that it does not disturb the reader.
    const data = JSON.stringify([day, overview[name]]);
    if (shown.get(name) === data) continue;
    shown.set(name, data);
    const content = make(overview, act, { expanded, showAll });
    const nodes = content.flat(Infinity).filter((node) => node !== null);
    replace(document.querySelector(`[data-part="${name}"]`), ...nodes);
  }
  const advanced = Math.round(overview.advanced_by);
  place("advanced").textContent = advanced === 0 ? "" : `, moved forward by ${advanced} s`;
  everySecond();
};

// The state of the sandbox; null when the sandbox does not respond.
const fetchOverview = async () => {
  try {
    const answer = await fetch(OVERVIEW, { headers: { Accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
};

const refresh = async () => {
  fetchAgain = fetching;
  if (fetching) return;
  fetching = true;
  const overview = await fetchOverview();
  fetching = false;
  stale = overview === null;
  if (stale) live("no", "The sandbox does not respond");
  else {
    draw(overview);
    if (source.readyState === EventSource.OPEN) live("yes", "Updates automatically");
    else live("asking", "Updated every two seconds");
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
    if (!answer.ok) say((await answer.json()).error, true);
    else say(`${request.done}.`);
  } catch {
    say("The sandbox does not respond.", true);
  }
  await refresh();
};

for (const button of document.querySelectorAll("[data-advance]")) {
  const seconds = Number(button.dataset.advance);
  button.addEventListener("click", () =>
    act({ name: "advance", seconds, done: "The clock was moved forward" }),
  );
}
place("reset").addEventListener("click", () => {
  if (confirm("Delete all jobs, queues, requests and faults of this sandbox?")) {
    act({ name: "reset", done: "The sandbox was reset" });
  }
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
  act({ name: "inject", fault, done: `Fault ${fault.kind} injected` });
});
fitFields();

const source = new EventSource(EVENTS);
source.addEventListener("open", refresh);
source.addEventListener("change", refresh);
source.addEventListener("error", refresh);
setInterval(everySecond, 1000);
setInterval(() => {
  if (stale || source.readyState !== EventSource.OPEN) refresh();
}, POLL_INTERVAL);
refresh();
