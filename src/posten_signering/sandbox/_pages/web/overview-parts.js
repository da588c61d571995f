// The parts of the overview page, as HTML elements made from the values of the control API.

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

const signerItem = (job, signer, act) => {
  const key = `job-${job.id}-signer-${signer.number}`;
  const name = `signer ${signer.number} of job ${job.id}`;
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
      element("span", { class: "identifier", dir: "auto" }, signer.identifier),
      badge(signer.status),
      element("span", { class: "help" }, "since ", timeElement(signer.since, job.now)),
    ),
    signer.can_act
      ? element(
          "div",
          { class: "actions" },
          acts.map(([verb, text, done]) =>
            button(
              act,
              text,
              `${key}-${verb}`,
              { name: "act", job: job.id, signer: signer.number, act: verb, done: `${name} ${done}` },
              { "aria-label": `${text}: ${name}` },
            ),
          ),
        )
      : null,
  );
};

const jobCard = (job, act) => {
  const running = job.status === "IN_PROGRESS";
  const statusSource = job.polled ? queueName(job.polling_queue) : "status by token";
  return element(
    "article",
    { class: "job", "data-job": job.id, "aria-labelledby": `job-${job.id}` },
    element(
      "header",
      {},
      element(
        "h3",
        { id: `job-${job.id}` },
        element("span", { class: "number" }, `Job ${job.id}`),
        " ",
        element("span", { dir: "auto" }, job.title),
      ),
      badge(job.status),
      job.unconfirmed ? element("span", { class: "badge wait" }, "not confirmed") : null,
      job.documents_deleted ? element("span", { class: "badge plain" }, "documents deleted") : null,
    ),
    element(
      "p",
      { class: "help" },
      `Organisation ${organization(job.sender)} · ${statusSource} · `,
      job.reference === null ? null : element("span", { dir: "auto" }, `${job.reference} · `),
      "created ",
      timeElement(job.created, job.now),
      running ? " · " : null,
      running ? countdown(job.expires, { ahead: "expires in", past: "expires now" }) : null,
    ),
    element("ol", { class: "signers" }, job.signers.map((signer) => signerItem(job, signer, act))),
    element(
      "p",
      { class: "help" },
      "Documents: ",
      job.documents.map((document, index) => [
        index === 0 ? null : ", ",
        element("span", { dir: "auto" }, document.title),
      ]),
    ),
    element(
      "div",
      { class: "actions" },
      running
        ? button(act, "Expire", `job-${job.id}-expire`, {
            name: "expire",
            job: job.id,
            done: `Job ${job.id} expired`,
          }, { "aria-label": `Expire: job ${job.id}` })
        : null,
      running || job.documents_deleted
        ? null
        : button(act, "Delete documents", `job-${job.id}-delete`, {
            name: "delete",
            job: job.id,
            done: `Documents of job ${job.id} deleted`,
          }, { "aria-label": `Delete documents: job ${job.id}` }),
    ),
  );
};

// A list shows its newest items first, and the older ones when the reader asks for them.
const FIRST_SHOWN = 30;

const newest = (all, name, { expanded, showAll }) => {
  if (all.length <= FIRST_SHOWN || expanded.has(name)) return [all, null];
  const more = element(
    "button",
    { type: "button", "data-key": `all-${name}`, onclick: () => showAll(name) },
    `Show ${all.length - FIRST_SHOWN} older`,
  );
  return [all.slice(0, FIRST_SHOWN), element("p", { class: "more" }, more)];
};

export const jobs = ({ jobs: all, now }, act, view) => {
  if (all.length === 0) {
    return [empty("No jobs yet. Create one with your client, and it appears here.")];
  }
  const [shown, more] = newest(all, "jobs", view);
  return [shown.map((job) => jobCard({ ...job, now }, act)), more];
};

const changeItem = (queue, change, act) =>
  element(
    "li",
    {},
    element("span", {}, `Job ${change.job_id}`),
    badge(change.status),
    change.leased_until === null
      ? element("span", { class: "help" }, "waits for a poll")
      : countdown(change.leased_until, { ahead: "lease ends in", past: "lease has ended" }),
    change.leased_until === null
      ? null
      : button(
          act,
          "End lease",
          `lease-${queue.sender}-${queue.name}-${change.number}`,
          {
            name: "end_lease",
            job: change.job_id,
            change: change.number,
            done: `Lease of job ${change.job_id} ended`,
          },
          { "aria-label": `End lease: change ${change.number} of job ${change.job_id}` },
        ),
  );

export const queues = ({ queues: all }, act) =>
  all.length === 0
    ? [empty("No queue yet. A queue appears here after its first poll or status change.")]
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
            : element("ul", { class: "changes" }, queue.changes.map((change) => changeItem(queue, change, act))),
        ),
      );

const faultText = ({ fault, left }) => {
  const phrases = [left === null ? "every request" : left === 1 ? "the next request" : `the next ${left} requests`];
  if (fault.operation !== null) phrases.push(`to ${fault.operation}`);
  if (fault.path !== null) phrases.push(`with a path that matches ${fault.path}`);
  if (fault.probability < 1) phrases.push(`with probability ${fault.probability}`);
  for (const name of ["seconds", "status", "code", "header"]) {
    if (fault[name] !== null) phrases.push(`${name} ${fault[name]}`);
  }
  if (fault.after) phrases.push("after the request took effect");
  return phrases.join(", ");
};

export const faults = ({ faults: all }, act) => {
  if (all.length === 0) return [empty("No faults are pending.")];
  const rows = all.map((pending) =>
    element(
      "li",
      {},
      element("code", {}, pending.fault.kind),
      element("span", {}, faultText(pending)),
      button(
        act,
        "Remove",
        `fault-${pending.number}`,
        { name: "remove_fault", fault: pending.number, done: `Fault ${pending.fault.kind} removed` },
        { "aria-label": `Remove: ${pending.fault.kind}` },
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
  if (all.length === 0) return [empty("No requests to the API yet.")];
  const [shown, more] = newest(all, "requests", view);
  const rows = shown.map((request) => ({
    kind: request.status === null || request.status >= 400 ? "refused" : null,
    cells: [
      timeElement(request.time, now),
      request.method,
      element("code", {}, request.path),
      statusCell(request.status),
      [request.refusal, ...request.faults.map((fault) => `fault: ${fault}`)]
        .filter((text) => text !== null)
        .join(" · "),
    ],
  }));
  const columns = ["Time", "Method", "Path", "Status", "Refusal and faults"];
  return [table("The last requests to the API, newest first", columns, rows), more];
};

const counted = (counts) =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");

export const counters = ({ counters: all }) => {
  const rows = Object.entries(all);
  if (rows.length === 0) return [empty("No calls yet.")];
  return [
    table(
      "Calls, refusals and early polls of each organisation",
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
