// The address of the page. Its query holds what the reader selected: a filter, and a page of each list.

// The address with other parameters. An empty value removes a parameter.
export const address = (parameters) => {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(parameters)) {
    if (value === "") query.delete(name);
    else query.set(name, value);
  }
  return `${location.pathname}${String(query) === "" ? "" : `?${query}`}`;
};

export const selected = (name) => new URLSearchParams(location.search).get(name) ?? "";

// The parameters that select all jobs, or one job.
export const ALL_JOBS = { job: "", state: "", organization: "", page: "" };
export const oneJob = (id) => ({ ...ALL_JOBS, job: id });
