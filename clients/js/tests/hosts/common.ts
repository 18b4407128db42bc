// What every JavaScript host of tests/hosts has: the adapter's options, users of its own, and its end.

import process from "node:process";

import { type AuthHandler, anyOf, createApiKeyAuth, type HandlerOptions, sameSite } from "@stepflow/client/handler";

const { env } = process;
const closing = new AbortController();

/** Where the API is mounted. */
export const PREFIX = env["PREFIX"] ?? "/api/stepflow";

const ofSession: AuthHandler = ({ request }) => /(?:^|; )user=\w/.test(request.headers.get("cookie") ?? "");

export const options: HandlerOptions = {
  url: env["SERVICE_URL"] ?? "",
  apiKey: env["SERVICE_KEY"],
  endpoints: (env["ENDPOINTS"] ?? "all") as "all",
  // Who has the host's key, or a session of the host's. Neither is the service's own key.
  auth: anyOf(sameSite(ofSession), createApiKeyAuth(env["CALLER_KEY"] ?? "")),
  closing: closing.signal,
};

/** What `/login` sets. */
export function sessionOf(body: unknown): string {
  return `user=${(body as { user: string }).user}; Path=/; HttpOnly`;
}

/** Say that it serves; at SIGTERM end the streams, and then let the host end. */
export function live(port: number, end: () => Promise<unknown>): void {
  console.log("host started");
  console.log(`Running on http://127.0.0.1:${port}`);
  process.once("SIGTERM", async () => {
    closing.abort();
    await end();
    console.log("host stopped");
    process.exit(0);
  });
}
