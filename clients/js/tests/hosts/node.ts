// The end of a server of Node's.

import type { AddressInfo } from "node:net";

import { live } from "./common.js";

interface Closes {
  address(): AddressInfo | string | null;
  close(done: (error?: Error) => void): unknown;
  closeIdleConnections?(): void;
}

/** The server listens: it lives until SIGTERM, and ends when its last answer is out. */
export function liveOn(server: Closes): void {
  const { port } = server.address() as AddressInfo;
  live(port, () => {
    // Callers keep their connections: what an answer has left idle is closed, too.
    setInterval(() => server.closeIdleConnections?.(), 50).unref();
    return new Promise((resolve) => server.close(resolve));
  });
}
