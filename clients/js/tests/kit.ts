// A real `stepflow serve`, which can be killed and started again on its data; and small helpers.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { createClient, type RunEvent, type StepflowClient } from "@stepflow/client";

export const KEY = "js-client-test-key-0123456789";
export const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));
const ROOT = path.resolve(PACKAGE, "../..");
const PYTHON = process.env["STEPFLOW_PYTHON"] ?? path.join(ROOT, ".venv/bin/python");
const APP = path.join(PACKAGE, "tests/app.py");
// Where there is no setpriv (it is Linux's), a test that is itself killed leaves its server behind.
const DOOMED = spawnSync("setpriv", ["--version"]).status === 0;

/** How long anything may take before it is called a hang. Below the limit of a whole test. */
const WAIT_MS = 120_000;

export class Service {
  readonly port: number;
  readonly basePath: string;
  readonly #data: string;
  readonly #env: Record<string, string>;
  #process: ChildProcess | undefined;

  private constructor(port: number, data: string, basePath: string, env: Record<string, string>) {
    this.port = port;
    this.basePath = basePath;
    this.#data = data;
    this.#env = env;
  }

  static async start(env: Record<string, string> = {}, basePath = ""): Promise<Service> {
    const data = await mkdtemp(path.join(tmpdir(), "stepflow-js-"));
    const service = new Service(await freePort(), data, basePath, env);
    await service.start();
    return service;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}${this.basePath}`;
  }

  client(): StepflowClient {
    return createClient({ url: this.url, apiKey: KEY });
  }

  async start(): Promise<void> {
    const serve = ["-c", "from stepflow.cli.main import main; main()", "serve", APP];
    const options = ["--data", this.#data, "--port", String(this.port)];
    if (this.basePath) options.push("--base-path", this.basePath);
    const command = [PYTHON, ...serve, ...options];
    if (DOOMED) command.unshift("setpriv", "--pdeathsig", "KILL", "--");
    const [program = "", ...args] = command;
    const child = spawn(program, args, {
      cwd: ROOT,
      // A browser's second is too long for a test that restarts the server.
      env: { ...process.env, STEPFLOW_API_KEYS: KEY, STEPFLOW_STREAM_RETRY_MS: "5", ...this.#env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process = child;
    let said = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-4000);
      process.stderr.write(text);
    });
    const since = performance.now();
    while (!(await this.#ready())) {
      const ended = child.exitCode ?? child.signalCode;
      if (ended !== null) throw new Error(`the service ended: ${ended}\n${said}`);
      if (performance.now() - since > WAIT_MS) throw new Error(`the service is not ready on ${this.url}\n${said}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #ready(): Promise<boolean> {
    try {
      const answer = await fetch(`${this.url}/ready`, { signal: AbortSignal.timeout(2000) });
      return answer.status === 200;
    } catch {
      return false;
    }
  }

  /** kill -9, and wait until it is gone. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await within("the end of the service that was killed", gone);
  }

  async close(): Promise<void> {
    await this.kill();
    await rm(this.#data, { recursive: true, force: true });
  }

  async post(route: string, body?: unknown): Promise<Response> {
    return fetch(this.url + route, {
      method: "POST",
      headers: { "X-API-Key": KEY, "Content-Type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  }

  /** A finished run's whole stream, read by something that shares no code with the client. */
  async freshRead(runId: string): Promise<[id: string, event: string, data: unknown][]> {
    const answer = await fetch(`${this.url}/runs/${runId}/stream`, { headers: { "X-API-Key": KEY } });
    const rows: [string, string, unknown][] = [];
    for (const block of (await answer.text()).split("\n\n")) {
      const field = (key: string): string =>
        block
          .split("\n")
          .find((line) => line.startsWith(`${key}: `))
          ?.slice(key.length + 2) ?? "";
      if (field("id")) rows.push([field("id"), field("event"), JSON.parse(field("data"))]);
    }
    return rows;
  }
}

/** An event as `freshRead` has it. */
export function row(event: RunEvent): [string, string, unknown] {
  return [event.id ?? "", event.event, event.data];
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/** Await what a server has to do with. That it never comes is a failure with its name, and no hang. */
export async function within<T>(what: string, coming: PromiseLike<T>, ms = WAIT_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`never came in ${ms} ms: ${what}`)), ms);
  });
  try {
    return await Promise.race([coming, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Wait until it is true, and no longer than for ever; a condition that hangs itself is named, too. */
export async function until(condition: () => boolean | Promise<boolean>, ms = WAIT_MS): Promise<void> {
  const since = performance.now();
  for (;;) {
    const left = Math.max(1, ms - (performance.now() - since));
    if (await within(`an answer of ${condition}`, Promise.resolve(condition()), left)) return;
    if (performance.now() - since > ms) throw new Error(`never came true in ${ms} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
