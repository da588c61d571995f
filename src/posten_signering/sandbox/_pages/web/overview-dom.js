// Builds HTML elements from data, in the reader's language. Every text becomes a text node, never markup.

const TEXTS = JSON.parse(document.querySelector("[data-texts]").textContent);
const LOCALE = document.documentElement.lang === "nb" ? "nb-NO" : "en-GB";

// A text of the page, with values for the names in braces.
export const text = (name, values = {}) =>
  TEXTS[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);

export const element = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
};

// Replaces the content of a place. The focus moves to the new element with the same data-key, if there is one.
export const replace = (place, ...children) => {
  const key = place.contains(document.activeElement)
    ? document.activeElement.getAttribute("data-key")
    : null;
  place.replaceChildren(...children);
  if (key === null) return;
  const successor = place.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (successor !== null) successor.focus({ preventScroll: true });
  else {
    // The focused button no longer exists, so the focus moves to the heading of its section.
    const heading = place.closest("section").querySelector("h2");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
};

// Each column has a name, for the style sheet, and the text `column_<name>`.
export const table = (caption, columns, rows) =>
  element(
    "table",
    {},
    element("caption", { class: "unseen" }, caption),
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        columns.map((column) => element("th", { scope: "col" }, text(`column_${column}`))),
      ),
    ),
    element(
      "tbody",
      {},
      rows.map(({ kind = null, cells }) =>
        element(
          "tr",
          { class: kind },
          cells.map((cell, index) =>
            element(
              "td",
              { "data-column": columns[index], "data-label": text(`column_${columns[index]}`) },
              cell,
            ),
          ),
        ),
      ),
    ),
  );

export const empty = (words) => element("p", { class: "empty" }, words);

const clock = new Intl.DateTimeFormat(LOCALE, { timeStyle: "medium" });
const calendar = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium" });

// A time of day, with the date if the day differs from that of `now`.
export const shownTime = (iso, now) => {
  const time = new Date(iso);
  const sameDay = calendar.format(time) === calendar.format(new Date(now));
  return sameDay ? clock.format(time) : `${calendar.format(time)} ${clock.format(time)}`;
};

export const timeElement = (iso, now) =>
  element("time", { datetime: iso, title: iso }, shownTime(iso, now));

// The remaining time until a moment: the text `ahead`, then the text `past`. `tick` updates it.
export const countdown = (iso, ahead, past) =>
  element("span", { class: "countdown", "data-until": iso, "data-ahead": ahead, "data-past": past });

const span = (seconds) => {
  if (seconds < 90) return text("seconds", { number: Math.ceil(seconds) });
  if (seconds < 5400) return text("minutes", { number: Math.round(seconds / 60) });
  if (seconds < 129600) return text("hours", { number: Math.round(seconds / 3600) });
  return text("days", { number: Math.round(seconds / 86400) });
};

export const tick = (now) => {
  for (const node of document.querySelectorAll("[data-until]")) {
    const left = (new Date(node.dataset.until) - now) / 1000;
    const words =
      left > 0 ? text(node.dataset.ahead, { time: span(left) }) : text(node.dataset.past);
    if (node.textContent !== words) node.textContent = words;
  }
};
