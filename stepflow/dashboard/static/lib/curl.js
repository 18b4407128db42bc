// A request as a line for a POSIX shell. PURE.

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Return the line; the key stands in it by its environment name, so that it is in no history. */
export function curlOf({ method = "GET", url, body, headers = {} }) {
  const parts = ["curl -sf"];
  if (method !== "GET") parts.push(`-X ${method}`);
  parts.push(quote(url), '-H "X-API-Key: $STEPFLOW_API_KEY"');
  if (body !== undefined) parts.push("-H 'Content-Type: application/json'");
  for (const [name, value] of Object.entries(headers))
    parts.push(`-H ${quote(`${name}: ${value}`)}`);
  if (body !== undefined) parts.push(`-d ${quote(JSON.stringify(body))}`);
  return parts.join(" ");
}
