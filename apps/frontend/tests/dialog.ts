/** Adds dialogs and media queries, which jsdom lacks. */

const prototype = HTMLDialogElement.prototype;

prototype.show = function show(this: HTMLDialogElement) {
  this.setAttribute("open", "");
};

prototype.showModal = function showModal(this: HTMLDialogElement) {
  this.setAttribute("open", "");
  this.dataset.modal = "true";
};

prototype.close = function close(this: HTMLDialogElement) {
  this.removeAttribute("open");
  delete this.dataset.modal;
};

const queries = new Map<string, MediaQueryList>();

window.matchMedia = (query) => {
  let list = queries.get(query);
  if (!list) {
    list = Object.assign(new EventTarget(), { matches: query.includes("min-width"), media: query }) as MediaQueryList;
    queries.set(query, list);
  }
  return list;
};

/** Simulates a wide or narrow window. */
export function resize(wide: boolean): void {
  for (const [query, list] of queries) {
    if (!query.includes("min-width")) continue;
    Object.assign(list, { matches: wide });
    list.dispatchEvent(new Event("change"));
  }
}
