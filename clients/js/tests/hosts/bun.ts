// Hono on Bun.

import { live } from "./common.js";
import { app } from "./site.js";

declare const Bun: {
  serve(how: { port: number; hostname: string; idleTimeout: number; fetch: typeof app.fetch }): {
    readonly port: number;
    stop(): Promise<void>;
  };
};

// Bun cuts what is silent for ten seconds; the service's streams have a word every fifteen.
const server = Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 60, fetch: app.fetch });
live(server.port, () => server.stop());
