// Where the reader is.
import { hashOf, parseHash } from "../lib/routes.js";
import { Store } from "./store.js";

export const route = new Store(parseHash(location.hash));

addEventListener("hashchange", () => route.set(parseHash(location.hash)));

/** Go to a page, as a link would. */
export function go(page, id = "", query = {}) {
  location.hash = hashOf(page, id, query);
}

/** Change the query of the page that is shown, without a step to go back over. */
export function setQuery(query) {
  const { page, id } = route.value;
  history.replaceState(null, "", hashOf(page, id, query));
  route.set(parseHash(location.hash));
}
