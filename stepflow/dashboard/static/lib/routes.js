// The address of a page, behind the `#`. PURE.
//
//     #/runs?status=failed&q=card    #/runs/run_…    #/workflows/checkout    #/share/run_…?token=pat_…

export const PAGES = [
  "runs",
  "workflows",
  "events",
  "schedules",
  "system",
  "keys",
  "share",
  "login",
];

/** Return `{ page, id, query }` of a location's hash; the runs where it names no page. */
export function parseHash(hash) {
  const text = hash.replace(/^#\/?/, "");
  const cut = text.indexOf("?");
  const path = cut < 0 ? text : text.slice(0, cut);
  const query = new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1));
  const [page, ...rest] = path.split("/");
  if (!PAGES.includes(page)) return { page: "runs", id: "", query: new URLSearchParams() };
  return { page, id: decode(rest.join("/")), query };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Return the hash of a page; what is empty in `query` is left out. */
export function hashOf(page, id = "", query = {}) {
  const found = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const search = found.toString();
  return `#/${page}${id ? `/${encodeURIComponent(id)}` : ""}${search ? `?${search}` : ""}`;
}
