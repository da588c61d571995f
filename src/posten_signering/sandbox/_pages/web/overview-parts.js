// The parts of the overview: from the values of the control API to elements.

import { countdown, element, empty, table, timeElement } from "/web/overview-dom.js";

const organization = (number) =>
  number === null ? "unknown" : number.replace(/(\d{3})(?=\d)/g, "$1\u00a0");

const queueName = (name) => (name === null ? "default queue" : `queue ${name}`);

const TONES = {
  SIGNED: "good",
  COMPLETED_SUCCESSFULLY: "good",
  REJECTED: "bad",
  FAILED: "bad",
  EXPIRED: "bad",
};

const badge = (status) => element("span", { class: `badge ${TONES[status] ?? "plain"}` }, status);

const button = (act, text, key, request, more = {}) =>
  element("button", { type: "button", "data-key": key, onclick: () => act(request), ...more }, text);

const signer = (job, each, act) => {
  const key = `job-${job.id}-signer-${each.number}`;
  const who = `signer ${each.number} of job ${job.id}`;
  const acts = [
    ["sign", "Sign", "signed"],
    ["reject", "Reject", "rejected"],
    ["fail", "Fail", "failed"],
  ];
  return element(
    "li",
    { class: "signer" },
    element(
      "div",
      { class: "who" },
      element("span", { class: "identifier", dir: "auto" }, each.identifier),
      badge(each.status),
      element("span", { class: "help" }, "since ", timeElement(each.since, job.now)),
    ),
    each.can_act
      ? element(
          "div",
          { class: "actions" },
          acts.map(([name, text, done]) =>
            button(
              act,
              text,
              `${key}-${name}`,
              { name: "act", job: job.id, signer: each.number, act: name, done: `${who} ${done}` },
              { "aria-label": `${text}: ${who}` },
            ),
          ),
        )
      : null,
  );
};

const job = (each, act) => {
  const running = each.status === "IN_PROGRESS";
  const way = each.polled ? queueName(each.polling_queue) : "status by token";
  return element(
    "article",
    { class: "job", "data-job": each.id, "aria-labelledby": `job-${each.id}` },
    element(
      "header",
      {},
      element(
        "h3",
        { id: `job-${each.id}` },
        element("span", { class: "number" }, `Job ${each.id}`),
        " ",
        element("span", { dir: "auto" }, each.title),
      ),
      badge(each.status),
      each.unconfirmed ? element("span", { class: "badge wait" }, "not confirmed") : null,
      each.documents_deleted ? element("span", { class: "badge plain" }, "documents deleted") : null,
    ),
    element(
      "p",
      { class: "help" },
      `Organisation ${organization(each.sender)} · ${way} · `,
      each.reference === null ? null : element("span", { dir: "auto" }, `${each.reference} · `),
      "created ",
      timeElement(each.created, each.now),
      running ? " · " : null,
      running ? countdown(each.expires, { ahead: "expires in", past: "expires now" }) : null,
    ),
    element("ol", { class: "signers" }, each.signers.map((one) => signer(each, one, act))),
    element(
      "p",
      { class: "help" },
      "Documents: ",
      each.documents.map((one, index) => [
        index === 0 ? null : ", ",
        element("span", { dir: "auto" }, one.title),
      ]),
    ),
    element(
      "div",
      { class: "actions" },
      running
        ? button(act, "Expire", `job-${each.id}-expire`, {
            name: "expire",
            job: each.id,
            done: `Job ${each.id} expired`,
          }, { "aria-label": `Expire: job ${each.id}` })
        : null,
      running || each.documents_deleted
        ? null
        : button(act, "Delete documents", `job-${each.id}-delete`, {
            name: "delete",
            job: each.id,
            done: `Documents of job ${each.id} deleted`,
          }, { "aria-label": `Delete documents: job ${each.id}` }),
    ),
  );
};

// The newest come first; the others when they are asked for.
const MANY = 30;

const newest = (all, name, { whole, showAll }) => {
  if (all.length <= MANY || whole.has(name)) return [all, null];
  const more = element(
    "button",
    { type: "button", "data-key": `all-${name}`, onclick: () => showAll(name) },
    `Show ${all.length - MANY} older`,
  );
  return [all.slice(0, MANY), element("p", { class: "more" }, more)];
};

export const jobs = ({ jobs: all, now }, act, view) => {
  if (all.length === 0) {
    return [empty("No job yet. Create one with your client: it shows here by itself.")];
  }
  const [some, more] = newest(all, "jobs", view);
  return [some.map((each) => job({ ...each, now }, act)), more];
};

const change = (queue, each, act) =>
  element(
    "li",
    {},
    element("span", {}, `Job ${each.job_id}`),
    badge(each.status),
    each.leased_until === null
      ? element("span", { class: "help" }, "waits for a poll")
      : countdown(each.leased_until, { ahead: "leased for another", past: "lease has run out" }),
    each.leased_until === null
      ? null
      : button(
          act,
          "End lease",
          `lease-${queue.sender}-${queue.name}-${each.number}`,
          {
            name: "end_lease",
            job: each.job_id,
            change: each.number,
            done: `Lease of job ${each.job_id} ended`,
          },
          { "aria-label": `End lease: change ${each.number} of job ${each.job_id}` },
        ),
  );

export const queues = ({ queues: all }, act) =>
  all.length === 0
    ? [empty("No queue has been polled or holds a change.")]
    : all.map((queue) =>
        element(
          "article",
          { class: "queue" },
          element(
            "h3",
            {},
            `Organisation ${organization(queue.sender)}, `,
            element("span", { dir: "auto" }, queueName(queue.name)),
          ),
          element(
            "p",
            {},
            queue.next_permitted_poll_time === null
              ? "Never polled."
              : countdown(queue.next_permitted_poll_time, {
                  ahead: "Next poll permitted in",
                  past: "A poll is permitted now.",
                }),
          ),
          queue.changes.length === 0
            ? element("p", { class: "help" }, "Empty.")
            : element("ul", { class: "changes" }, queue.changes.map((each) => change(queue, each, act))),
        ),
      );

const inWords = ({ fault, left }) => {
  const words = [left === null ? "every request" : left === 1 ? "the next request" : `the next ${left} requests`];
  if (fault.operation !== null) words.push(`to ${fault.operation}`);
  if (fault.path !== null) words.push(`with a path like ${fault.path}`);
  if (fault.probability < 1) words.push(`with probability ${fault.probability}`);
  for (const name of ["seconds", "status", "code", "header"]) {
    if (fault[name] !== null) words.push(`${name} ${fault[name]}`);
  }
  if (fault.after) words.push("after it took effect");
  return words.join(", ");
};

export const faults = ({ faults: all }, act) => {
  if (all.length === 0) return [empty("Nothing goes wrong at present.")];
  const rows = all.map((each) =>
    element(
      "li",
      {},
      element("code", {}, each.fault.kind),
      element("span", {}, inWords(each)),
      button(
        act,
        "Remove",
        `fault-${each.number}`,
        { name: "remove_fault", fault: each.number, done: `Fault ${each.fault.kind} removed` },
        { "aria-label": `Remove: ${each.fault.kind}` },
      ),
    ),
  );
  return [
    element("ul", { class: "pending" }, rows),
    element(
      "p",
      { class: "actions" },
      button(act, "Clear all faults", "faults-clear", { name: "clear_faults", done: "Faults cleared" }),
    ),
  ];
};

const statusCell = (status) =>
  status === null
    ? element("span", { class: "badge bad" }, "cut off")
    : element("span", { class: `badge ${status < 400 ? "good" : "bad"}` }, String(status));

export const requests = ({ requests: all, now }, _act, view) => {
  if (all.length === 0) return [empty("Nobody has called the API yet.")];
  const [some, more] = newest(all, "requests", view);
  const rows = some.map((each) => ({
    kind: each.status === null || each.status >= 400 ? "refused" : null,
    cells: [
      timeElement(each.time, now),
      each.method,
      element("code", {}, each.path),
      statusCell(each.status),
      [each.refusal, ...each.faults.map((fault) => `fault: ${fault}`)]
        .filter((said) => said !== null)
        .join(" · "),
    ],
  }));
  const columns = ["Time", "Method", "Path", "Status", "Why refused, and faults"];
  return [table("The last requests to the API, newest first", columns, rows), more];
};

const counted = (counts) =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");

export const counters = ({ counters: all }) => {
  const rows = Object.entries(all);
  if (rows.length === 0) return [empty("No calls to count.")];
  return [
    table(
      "What the calls of each organisation have come to",
      ["Organisation", "Calls", "Refused", "Early polls"],
      rows.map(([number, counts]) => ({
        cells: [
          organization(number),
          counted(counts.calls),
          counted(counts.refusals),
          `${counts.early_polls_of_one_client} by one client, ` +
            `${counts.early_polls_between_clients} between clients`,
        ],
      })),
    ),
  ];
};
