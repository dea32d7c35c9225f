// The state of the page is its address: #/view?name=value. Views are functions of it.

const listeners = [];

/** The view and its values in the address. */
export function current() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { view: path || "entity", values: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a view. Empty values are left out; the model stays. */
export function address(view, values = {}) {
  const all = { model: current().values.model, ...values };
  const kept = Object.entries(all).filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  const query = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

/** Goes to a view, as a link does. */
export function go(view, values) {
  const next = address(view, values);
  if (location.hash === next) tell();
  else location.hash = next;
}

/** Changes some values of the view without a step in the history. */
export function adjust(values) {
  const { view, values: before } = current();
  history.replaceState(null, "", address(view, { ...before, ...values }));
  tell();
}

/** Calls `listener` whenever the state changes. */
export function onChange(listener) {
  listeners.push(listener);
}

const tell = () => listeners.forEach((listener) => listener(current()));
addEventListener("hashchange", tell);
