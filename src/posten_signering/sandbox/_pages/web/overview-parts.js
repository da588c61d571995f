// The parts of the overview page, as HTML elements made from the values of the sandbox.

import { ALL_JOBS, address, oneJob } from "/web/overview-address.js";
import { countdown, element, empty, table, text, timeElement } from "/web/overview-dom.js";

const grouped = (number) => number.replace(/(\d{3})(?=\d)/g, "$1\u00a0");

const queueName = (name) => (name === null ? text("default_queue") : text("queue", { name }));

// A link that changes what the page shows. `go` does so without loading the page again.
const link = (go, parameters, words, { hash = "", ...attributes } = {}) =>
  element(
    "a",
    {
      href: address(parameters) + hash,
      onclick: (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        go(parameters, hash);
      },
      ...attributes,
    },
    words,
  );

const jobLink = (go, id, key) =>
  link(go, oneJob(id), text("job", { job: id }), { hash: "#jobs", "data-key": key });

const TONES = {
  SIGNED: "good",
  COMPLETED_SUCCESSFULLY: "good",
  REJECTED: "bad",
  FAILED: "bad",
  EXPIRED: "bad",
};

const badge = (status) => element("span", { class: `badge ${TONES[status] ?? "plain"}` }, status);

const button = (act, words, key, request, more = {}) =>
  element("button", { type: "button", "data-key": key, onclick: () => act(request), ...more }, words);

// The links to the other pages of a list, which shows its newest items first.
const pager = (go, name, label, { page, pages }) => {
  if (pages === 1) return null;
  const item = (key, number) =>
    page === number || number < 1 || number > pages
      ? element("span", { class: "off", "aria-hidden": "true" }, text(key))
      : link(go, { [name]: number === 1 ? "" : number }, text(key), { "data-key": `${name}-${key}` });
  return element(
    "nav",
    { class: "pager", "aria-label": label },
    item("newest", 1),
    item("newer", page - 1),
    element("span", { "aria-current": "page" }, text("page_of", { page, pages })),
    item("older", page + 1),
    item("oldest", pages),
  );
};

const signerItem = (job, signer, act) => {
  const key = `job-${job.id}-signer-${signer.number}`;
  const name = text("signer_of_job", { signer: signer.number, job: job.id });
  return element(
    "li",
    { class: "signer" },
    element(
      "div",
      { class: "who" },
      element("span", { class: "identifier", dir: "auto" }, signer.identifier),
      badge(signer.status),
      element("span", { class: "help" }, `${text("since")} `, timeElement(signer.since, job.now)),
    ),
    signer.can_act
      ? element(
          "div",
          { class: "actions" },
          ["sign", "reject", "fail"].map((verb) =>
            button(
              act,
              text(verb),
              `${key}-${verb}`,
              { name: "act", job: job.id, signer: signer.number, act: verb },
              { "aria-label": `${text(verb)}: ${name}` },
            ),
          ),
        )
      : null,
  );
};

const jobCard = (job, act, go) => {
  const running = job.status === "IN_PROGRESS";
  const statusSource = job.polled ? queueName(job.polling_queue) : text("by_token");
  const name = text("job", { job: job.id });
  const jobButton = (verb) =>
    button(act, text(verb), `job-${job.id}-${verb}`, { name: verb, job: job.id }, {
      "aria-label": `${text(verb)}: ${name}`,
    });
  return element(
    "article",
    { class: "job", "data-job": job.id, "aria-labelledby": `job-${job.id}` },
    element(
      "header",
      {},
      element(
        "h3",
        { id: `job-${job.id}` },
        element("span", { class: "number" }, jobLink(go, job.id, `job-${job.id}`)),
        " ",
        element("span", { dir: "auto" }, job.title),
      ),
      badge(job.status),
      job.unconfirmed ? element("span", { class: "badge wait" }, text("unconfirmed")) : null,
      job.documents_deleted
        ? element("span", { class: "badge plain" }, text("documents_deleted"))
        : null,
    ),
    element(
      "p",
      { class: "help" },
      `${text("organization", { number: grouped(job.sender) })} · ${statusSource} · `,
      job.reference === null ? null : element("span", { dir: "auto" }, `${job.reference} · `),
      `${text("created")} `,
      timeElement(job.created, job.now),
      running ? " · " : null,
      running ? countdown(job.expires, "expires", "expires_now") : null,
    ),
    element("ol", { class: "signers" }, job.signers.map((signer) => signerItem(job, signer, act))),
    element(
      "p",
      { class: "help" },
      `${text("documents")} `,
      job.documents.map((document, index) => [
        index === 0 ? null : ", ",
        element("span", { dir: "auto" }, document.title),
      ]),
    ),
    element(
      "div",
      { class: "actions" },
      running ? jobButton("expire") : null,
      running || job.documents_deleted ? null : jobButton("delete"),
    ),
  );
};

export const jobs = ({ jobs: shown, jobs_place: place, jobs_total: total, now }, act, go) => {
  if (total === 0) return [empty(text("no_jobs"))];
  const filtered = place.found < total;
  return [
    element(
      "p",
      { class: "found" },
      text("found", { found: place.found, total }),
      filtered ? " · " : null,
      filtered ? link(go, ALL_JOBS, text("show_all"), { "data-key": "all-jobs" }) : null,
    ),
    shown.length === 0
      ? empty(text("no_match"))
      : element("div", { class: "jobs" }, shown.map((job) => jobCard({ ...job, now }, act, go))),
    pager(go, "page", text("pages_of_jobs"), place),
  ];
};

const changeItem = (queue, change, act, go) => {
  const key = `lease-${queue.sender}-${queue.name}-${change.number}`;
  const name = text("change_of_job", { change: change.number, job: change.job_id });
  return element(
    "li",
    {},
    jobLink(go, change.job_id, `${key}-job`),
    badge(change.status),
    change.leased_until === null
      ? element("span", { class: "help" }, text("waits"))
      : countdown(change.leased_until, "leased", "lease_over"),
    change.leased_until === null
      ? null
      : button(
          act,
          text("end_lease"),
          key,
          { name: "end_lease", job: change.job_id, change: change.number },
          { "aria-label": `${text("end_lease")}: ${name}` },
        ),
  );
};

const queueCard = ({ queue, left_out: leftOut }, act, go) =>
  element(
    "article",
    { class: "queue" },
    element(
      "h3",
      {},
      `${text("queue_of", { number: grouped(queue.sender) })} `,
      element("span", { dir: "auto" }, queueName(queue.name)),
    ),
    element(
      "p",
      {},
      queue.next_permitted_poll_time === null
        ? text("never_polled")
        : countdown(queue.next_permitted_poll_time, "poll_later", "poll_now"),
    ),
    queue.changes.length === 0
      ? element("p", { class: "help" }, text("empty_queue"))
      : element(
          "ul",
          { class: "changes" },
          queue.changes.map((change) => changeItem(queue, change, act, go)),
        ),
    leftOut === 0 ? null : element("p", { class: "help" }, text("more_changes", { count: leftOut })),
  );

export const queues = ({ queues: shown, queues_left_out: leftOut }, act, go) => {
  if (shown.length === 0) return [empty(text("no_queues"))];
  const whole = leftOut === 0 && shown.every(({ left_out: changes }) => changes === 0);
  return [
    element("div", { class: "queues" }, shown.map((excerpt) => queueCard(excerpt, act, go))),
    leftOut === 0 ? null : element("p", { class: "help" }, text("more_queues", { count: leftOut })),
    whole
      ? null
      : element("p", {}, link(go, { queues: "all" }, text("whole_queues"), { "data-key": "queues" })),
  ];
};

// The fields that every fault has. The other fields are shown as the control API names them.
const GENERAL = new Set(["kind", "times", "operation", "path", "probability", "after"]);

const faultText = ({ fault, left }) => {
  const phrases = [
    left === null
      ? text("every_request")
      : left === 1
        ? text("next_request")
        : text("next_requests", { count: left }),
  ];
  if (fault.operation !== null) phrases.push(text("of_operation", fault));
  if (fault.path !== null) phrases.push(text("with_path", fault));
  if (fault.probability < 1) phrases.push(text("with_probability", fault));
  for (const [name, value] of Object.entries(fault)) {
    if (!GENERAL.has(name) && value !== null && value !== false) phrases.push(`${name} ${value}`);
  }
  if (fault.after) phrases.push(text("after"));
  return phrases.join(", ");
};

export const faults = ({ faults: all }, act) => {
  if (all.length === 0) return [empty(text("no_faults"))];
  const rows = all.map((pending) =>
    element(
      "li",
      {},
      element("code", {}, pending.fault.kind),
      element("span", {}, faultText(pending)),
      button(
        act,
        text("remove"),
        `fault-${pending.number}`,
        { name: "remove_fault", fault: pending.number, kind: pending.fault.kind },
        { "aria-label": `${text("remove")}: ${pending.fault.kind}` },
      ),
    ),
  );
  return [
    element("ul", { class: "pending" }, rows),
    element(
      "p",
      { class: "actions" },
      button(act, text("clear"), "faults-clear", { name: "clear_faults" }),
    ),
  ];
};

const statusCell = (status) =>
  status === null
    ? element("span", { class: "badge bad" }, text("cut_off"))
    : element("span", { class: `badge ${status < 400 ? "good" : "bad"}` }, String(status));

// The reason of a refusal is the service's own text, which is English.
const refusalCell = ({ refusal, faults: kinds }) => [
  refusal === null ? null : element("span", { lang: "en" }, refusal),
  refusal === null || kinds.length === 0 ? null : " · ",
  kinds.map((kind) => text("fault", { kind })).join(" · ") || null,
];

export const requests = ({ requests: shown, requests_place: place, now }, _act, go) => {
  if (shown.length === 0) return [empty(text("no_requests"))];
  const rows = shown.map((request) => ({
    kind: request.status === null || request.status >= 400 ? "refused" : null,
    cells: [
      timeElement(request.time, now),
      request.method,
      element("code", {}, request.path),
      statusCell(request.status),
      refusalCell(request).filter((cell) => cell !== null),
    ],
  }));
  return [
    table(text("requests_caption"), ["time", "method", "path", "status", "refusal"], rows),
    pager(go, "requests", text("pages_of_requests"), place),
  ];
};

const counted = (counts) =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");

export const counters = ({ counters: shown, counters_left_out: leftOut }) => {
  const rows = Object.entries(shown);
  if (rows.length === 0) return [empty(text("no_calls"))];
  return [
    table(
      text("counters_caption"),
      ["organization", "calls", "refused", "early"],
      rows.map(([number, counts]) => ({
        cells: [
          grouped(number),
          counted(counts.calls),
          counted(counts.refusals),
          text("early", {
            one: counts.early_polls_of_one_client,
            between: counts.early_polls_between_clients,
          }),
        ],
      })),
    ),
    leftOut === 0
      ? null
      : element("p", { class: "help" }, text("more_organizations", { count: leftOut })),
  ];
};
