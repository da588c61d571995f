// Keeps the overview up to date: told by server-sent events, or by asking again while there are none.

import { replace, shownTime, tick } from "/web/overview-dom.js";
import * as parts from "/web/overview-parts.js";

const ASK_AGAIN = 2000;
const OVERVIEW = "/control/overview";
const EVENTS = "/control/events";

const place = (name) => document.querySelector(`[data-${name}]`);
const shown = new Map();
const whole = new Set();
let ahead = 0;
let asking = false;
let askOnceMore = false;
let stale = true;

const now = () => Date.now() + ahead;

const live = (state, text) => {
  const sign = place("live");
  sign.dataset.live = state;
  if (sign.textContent !== text) sign.textContent = text;
};

const say = (text, wrong = false) => {
  place("result").textContent = wrong ? "" : text;
  place("wrong").textContent = wrong ? text : "";
};

const showAll = (name) => {
  whole.add(name);
  shown.delete(name);
  refresh();
};

const draw = (overview) => {
  ahead = new Date(overview.now) - Date.now();
  const day = overview.now.slice(0, 10);
  for (const [name, make] of Object.entries(parts)) {
    // A part is drawn anew only when it says something new: whoever reads it is not disturbed.
    const said = JSON.stringify([day, overview[name]]);
    if (shown.get(name) === said) continue;
    shown.set(name, said);
    const content = make(overview, act, { whole, showAll });
    const filled = content.flat(Infinity).filter((each) => each !== null);
    replace(document.querySelector(`[data-part="${name}"]`), ...filled);
  }
  const advanced = Math.round(overview.advanced_by);
  place("advanced").textContent = advanced === 0 ? "" : `, ${advanced} s ahead of its clock`;
  everySecond();
};

// What the sandbox says of itself; null when it does not answer.
const ask = async () => {
  try {
    const answer = await fetch(OVERVIEW, { headers: { Accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
};

const refresh = async () => {
  askOnceMore = asking;
  if (asking) return;
  asking = true;
  const overview = await ask();
  asking = false;
  stale = overview === null;
  if (stale) live("no", "The sandbox does not answer");
  else {
    draw(overview);
    if (source.readyState === EventSource.OPEN) live("yes", "Updates by itself");
    else live("asking", "Updated every two seconds");
  }
  if (askOnceMore) await refresh();
};

const everySecond = () => {
  const present = new Date(now());
  const clock = place("now");
  clock.dateTime = present.toISOString();
  clock.textContent = shownTime(present, present);
  tick(present);
};

// What each action asks of the control API.
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
    say("The sandbox does not answer.", true);
  }
  await refresh();
};

for (const each of document.querySelectorAll("[data-advance]")) {
  each.addEventListener("click", () =>
    act({ name: "advance", seconds: Number(each.dataset.advance), done: "The clock was moved on" }),
  );
}
place("reset").addEventListener("click", () => {
  if (confirm("Forget every job, queue and request of this sandbox?")) {
    act({ name: "reset", done: "The sandbox is as new" });
  }
});

const form = place("inject");

// Each kind of fault takes some of the fields; the others are out of the way.
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
}, ASK_AGAIN);
refresh();
