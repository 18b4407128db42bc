// Hono on Deno.

import { live } from "./common.js";
import { app } from "./site.js";

interface Served {
  readonly addr: { readonly port: number };
  shutdown(): Promise<void>;
}
declare const Deno: {
  serve(how: { port: number; hostname: string; onListen: () => void }, fetch: typeof app.fetch): Served;
};

const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => undefined }, app.fetch);
live(server.addr.port, () => server.shutdown());
