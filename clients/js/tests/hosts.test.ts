// The published API through each host: one suite, the service itself first.

import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import { after, before, describe, test } from "node:test";

import { serve } from "@hono/node-server";
import { createClient, type RunEvent } from "@stepflow/client";
import { createStepflowRouter } from "@stepflow/client/express";
import { stepflowPlugin } from "@stepflow/client/fastify";
import {
  anyOf,
  createApiKeyAuth,
  createStepflowHandler,
  type HandlerOptions,
  sameSite,
} from "@stepflow/client/handler";
import { createStepflowRoutes } from "@stepflow/client/hono";
import { createStepflowRoute } from "@stepflow/client/next";
import express from "express";
import Fastify from "fastify";
import { Hono } from "hono";

import { KEY, row, Service, until } from "./kit.js";

const BASE = "/api/stepflow";
const NO_RUN = "run_0000000000000000000000";

interface Host {
  readonly url: string;
  close(): unknown;
}
type Start = (options: HandlerOptions) => Promise<Host>;

function listening(server: Server): Promise<Host> {
  return new Promise((resolve) => {
    const ready = (): void => {
      const address = server.address();
      const port = typeof address === "object" && address ? address.port : 0;
      resolve({
        url: `http://127.0.0.1:${port}${BASE}`,
        close: () => {
          server.closeAllConnections();
          server.close();
        },
      });
    };
    if (server.listening) ready();
    else server.once("listening", ready);
  });
}

const HOSTS: Record<string, Start> = {
  async hono(options) {
    const app = new Hono();
    app.route(BASE, createStepflowRoutes(options));
    return listening(serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server);
  },
  async express(options) {
    const app = express();
    app.use(BASE, createStepflowRouter(options));
    return listening(app.listen(0, "127.0.0.1"));
  },
  async "express behind express.json()"(options) {
    const app = express();
    app.use(express.json({ strict: false }));
    app.use(BASE, createStepflowRouter(options));
    return listening(app.listen(0, "127.0.0.1"));
  },
  async fastify(options) {
    const app = Fastify({ forceCloseConnections: true });
    await app.register(stepflowPlugin, { prefix: BASE, ...options });
    await app.listen({ port: 0, host: "127.0.0.1" });
    return { url: (await listening(app.server)).url, close: () => app.close() };
  },
  // Next.js calls the route's methods with the web's Request; here a server does that does so, too.
  async next(options) {
    const route = createStepflowRoute(options);
    const fetch = (request: Request): Response | Promise<Response> => {
      const method = route[request.method as keyof typeof route] as (typeof route)["GET"] | undefined;
      return method ? method(request) : new Response(null, { status: 405 });
    };
    return listening(serve({ fetch, port: 0, hostname: "127.0.0.1" }) as Server);
  },
};

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.close());

/** What the service itself answers where it is asked with the key. */
const ITSELF: Start = async () => ({ url: service.url, close: () => undefined });

for (const [name, start] of Object.entries({ "the service itself": ITSELF, ...HOSTS })) {
  describe(name, () => {
    let host: Host;
    const own = start === ITSELF;
    const key: Record<string, string> = own ? { "X-API-Key": KEY } : {};
    const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
      fetch(host.url + path, { headers: { ...key, ...headers } });
    const post = (path: string, body?: string, headers: Record<string, string> = {}): Promise<Response> =>
      fetch(host.url + path, {
        method: "POST",
        headers: { ...key, "Content-Type": "application/json", ...headers },
        ...(body !== undefined && { body }),
      });
    const triggered = async (id: string, input: unknown): Promise<{ runId: string; publicAccessToken: string }> => {
      const answer = await post(`/trigger/${id}`, JSON.stringify(input));
      assert.equal(answer.status, 200, await answer.clone().text());
      return (await answer.json()) as { runId: string; publicAccessToken: string };
    };
    const client = () => createClient({ url: host.url, ...(own && { apiKey: KEY }) });

    before(async () => {
      host = await start({ url: service.url, apiKey: KEY });
    });
    after(() => host.close());

    test("POST /trigger: exactly a run's id and its token", async () => {
      const answer = await triggered("echo", { a: [1, "ü", null] });
      assert.deepEqual(Object.keys(answer).sort(), ["publicAccessToken", "runId"]);
      assert.match(answer.runId, /^run_/);
      assert.match(answer.publicAccessToken, /^pat_/);
      assert.deepEqual(await client().result(answer.runId), { a: [1, "ü", null] });
    });

    test("any JSON value is an input, and an empty body is null", async () => {
      for (const [body, value] of [
        ["null", null],
        ["0", 0],
        ['"text"', "text"],
        ["[]", []],
        ["", null],
      ] as const) {
        const { runId } = (await (await post("/trigger/echo", body)).json()) as { runId: string };
        assert.deepEqual(await client().result(runId), value, body);
      }
    });

    test("refusals have the published shape, code and status", async () => {
      const rows: [Promise<Response>, number, string][] = [
        [post("/trigger/nothing", "1"), 404, "WORKFLOW_NOT_FOUND"],
        [post("/trigger/typed", '{"a":"x"}'), 400, "INVALID_INPUT"],
        [get(`/runs/${NO_RUN}`), 404, "RUN_NOT_FOUND"],
        [get(`/runs/${NO_RUN}/stream`), 404, "RUN_NOT_FOUND"],
        [post("/notify/nobody", "1"), 404, "EVENT_NOT_FOUND"],
        [get("/nothing"), 404, "NOT_FOUND"],
        [get("/runs/%2e%2e%2fmetrics"), 404, "NOT_FOUND"],
      ];
      for (const [asked, status, code] of rows) {
        const answer = await asked;
        const body = (await answer.json()) as { error: unknown; code: unknown };
        assert.deepEqual([answer.status, body.code], [status, code]);
        assert.deepEqual(Object.keys(body).sort(), ["code", "error"]);
        assert.equal(typeof body.error, "string");
      }
      if (name !== "express behind express.json()") {
        assert.equal((await post("/trigger/echo", "{")).status, 400);
      }
    });

    test("GET /runs: a run, with the key or with its token alone", async () => {
      const { runId, publicAccessToken } = await triggered("echo", 7);
      await client().result(runId);
      const run = (await (await get(`/runs/${runId}`)).json()) as Record<string, unknown>;
      for (const member of ["id", "workflowId", "status", "input", "steps", "createdAt", "updatedAt"]) {
        assert.ok(member in run, member);
      }
      const read = await fetch(`${host.url}/runs/${runId}?token=${publicAccessToken}`);
      assert.deepEqual(await read.json(), run);
      assert.equal((await fetch(`${host.url}/runs/${runId}?token=pat_wrong`)).status, 401);
      const other = await triggered("echo", 8);
      assert.equal((await fetch(`${host.url}/runs/${other.runId}?token=${publicAccessToken}`)).status, 404);
      assert.equal((await fetch(`${host.url}/runs?token=${publicAccessToken}`)).status, 403);
    });

    test("POST /notify reaches who waits", async () => {
      const run = await triggered("order", { id: `h-${name}` });
      const answer = await post(`/notify/${encodeURIComponent(`paid-h-${name}`)}`, '{"n":1}');
      assert.deepEqual([answer.status, await answer.json()], [200, { success: true }]);
      const result = (await client().result(run.runId)) as { paid: unknown };
      assert.deepEqual(result.paid, { n: 1 });
    });

    test("GET /health and /openapi.yaml", async () => {
      const health = (await (await get("/health")).json()) as Record<string, unknown>;
      assert.deepEqual(Object.keys(health).sort(), ["status", "timestamp"]);
      assert.match(await (await get("/openapi.yaml")).text(), /^openapi: /);
    });

    test("a stream is not held back, and resumes after Last-Event-ID", async () => {
      const run = await client().trigger("rounds", { id: name, rounds: 1 });
      const answer = await get(`/runs/${run.runId}/stream`, { Accept: "text/event-stream" });
      assert.equal(answer.headers.get("content-type"), "text/event-stream; charset=utf-8");
      assert.match(answer.headers.get("cache-control") ?? "", /no-transform/);
      await answer.body?.cancel();
      const events: RunEvent[] = [];
      // The run waits at its gate: what comes before it has to be here, or this never goes on.
      for await (const event of client().subscribeToRun(run.runId)) {
        events.push(event);
        if (event.event === "status" && event.data.key === "go#1") break;
      }
      await client().notify(`go-${name}-0`);
      const { lastEventId = "" } = events.at(-1) ?? {};
      for await (const event of client().subscribeToRun(run.runId, { lastEventId })) events.push(event);
      assert.deepEqual(events.filter((event) => event.id).map(row), await service.freshRead(run.runId));
      const last = events.at(-1)?.lastEventId ?? "";
      assert.equal((await get(`/runs/${run.runId}/stream`, { "Last-Event-ID": last })).status, 204);
    });

    test("GET /stream: list, then stream from there, and nothing is missed", async () => {
      const { streamCursor } = await client().listRuns();
      const run = await triggered("echo", 1);
      const events = [];
      for await (const event of client().stream({ runId: run.runId, cursor: streamCursor })) {
        events.push(event.event);
        assert.ok(event.event !== "resync" && event.data.runId === run.runId);
        if (event.event === "complete") break;
      }
      assert.deepEqual(events, ["status", "complete"]);
    });

    test("a page that leaves ends its stream at the service", async () => {
      const open = async (): Promise<number> => {
        const text = await (await fetch(`${service.url}/metrics`, { headers: { "X-API-Key": KEY } })).text();
        return Number(/^stepflow_stream_subscribers(?:\{.*\})? (\d+)/m.exec(text)?.[1] ?? Number.NaN);
      };
      await until(async () => (await open()) === 0);
      const run = await triggered("rounds", { id: "leave", rounds: 1 });
      const controller = new AbortController();
      const { body } = await fetch(`${host.url}/runs/${run.runId}/stream`, { headers: key, signal: controller.signal });
      await body?.getReader().read();
      await until(async () => (await open()) === 1);
      controller.abort();
      await until(async () => (await open()) === 0);
      await client().cancel(run.runId, { force: true });
    });
  });
}

describe("every host", () => {
  for (const [name, start] of Object.entries(HOSTS)) {
    test(`${name}: presets, auth and the path decide before the service hears of it`, async (t) => {
      const seen: string[] = [];
      const behind = createServer((request, response) => {
        seen.push(`${request.method} ${request.url} ${request.headers["x-api-key"]} ${request.headers["cookie"]}`);
        const headers = { "Content-Type": "application/json", "Set-Cookie": "a=b", Connection: "x-hop", "X-Hop": "1" };
        response.writeHead(200, headers).end("{}");
      });
      const upstream = await listening(behind.listen(0, "127.0.0.1"));
      t.after(() => upstream.close());
      const options = { url: upstream.url.replace(BASE, "/inner"), apiKey: KEY };
      const using = async (more: Partial<HandlerOptions>, path: string, init: RequestInit = {}): Promise<Response> => {
        const host = await start({ ...options, ...more });
        try {
          const answer = await fetch(host.url + path, init);
          return new Response(await answer.text(), { status: answer.status, headers: answer.headers });
        } finally {
          await host.close();
        }
      };
      const sent = async (...args: Parameters<typeof using>): Promise<number> => {
        const { length } = seen;
        const { status } = await using(...args);
        assert.equal(seen.length > length, status === 200, "forwarded, or refused");
        return status;
      };
      const POST = { method: "POST" };
      // Which preset has which route.
      const routes: [string, RequestInit, string[]][] = [
        ["/trigger/x", POST, ["all", "public"]],
        ["/notify/x", POST, ["all", "public"]],
        ["/runs/x", {}, ["all", "public", "private"]],
        ["/runs/x/stream", {}, ["all", "public", "private"]],
        ["/health", {}, ["all", "public", "private", "internal"]],
        ["/metrics", {}, ["all", "public", "private"]],
      ];
      for (const endpoints of ["all", "public", "private", "internal", "none"] as const) {
        for (const [path, init, among] of routes) {
          assert.equal(
            await sent({ endpoints }, path, init),
            among.includes(endpoints) ? 200 : 404,
            `${endpoints} ${path}`,
          );
        }
      }
      assert.equal(await sent({ endpoints: { runs: false } }, "/runs/x"), 404);
      assert.equal(await sent({ endpoints: { runs: false } }, "/runs/x/stream"), 200);
      assert.equal(await sent({}, "/session", POST), 404);
      assert.equal(await sent({}, "/keys"), 404);
      assert.equal(await sent({}, "/ui"), 404);

      const auth = anyOf(createApiKeyAuth("a-key"), () => false);
      const failures: string[] = [];
      const onAuthFailure: HandlerOptions["onAuthFailure"] = ({ endpoint }) => failures.push(endpoint);
      assert.equal(await sent({ auth, onAuthFailure }, "/runs/x"), 401);
      assert.deepEqual(failures, ["runs"]);
      assert.equal(await sent({ auth }, "/runs/x", { headers: { "X-API-Key": "a-key" } }), 200);
      assert.equal(await sent({ auth: () => ({ ok: false, status: 403 }) }, "/runs/x"), 403);
      const byRoute = { auth: { trigger: () => true } };
      assert.equal(await sent(byRoute, "/trigger/x", POST), 200);
      assert.equal(await sent(byRoute, "/notify/x", POST), 401);
      assert.equal(await sent(byRoute, "/health"), 200);
      assert.equal(await sent({ healthCheck: () => false }, "/health"), 503);
      // What the service shows to everybody is open here, too, unless it has a handler of its own.
      const shut = (): boolean => false;
      assert.equal(await sent({ auth: shut }, "/health"), 200);
      assert.equal(await sent({ auth: shut }, "/ready"), 200);
      assert.equal(await sent({ auth: shut }, "/docs"), 200);
      assert.equal(await sent({ auth: { health: shut } }, "/health"), 401);
      assert.equal(await sent({ auth: { global: shut, runs: () => true } }, "/runs/x"), 200);
      assert.equal(await sent({ auth: { global: shut, runs: () => true } }, "/notify/x", POST), 401);
      // A token is for the service to judge, where it has keys; it opens nothing but reads.
      assert.equal(await sent({ auth: shut }, "/runs/x?token=pat_1"), 200);
      assert.equal(await sent({ auth: shut }, "/runs/x/stream?token=pat_1"), 200);
      assert.equal(await sent({ auth: shut }, "/runs/x/cancel?token=pat_1", POST), 401);
      assert.equal(await sent({ auth: shut }, "/trigger/x?token=pat_1", POST), 401);
      assert.equal(await sent({ auth: shut, apiKey: undefined }, "/runs/x?token=pat_1"), 401);
      // A cookie comes along from pages of other sites, and is nobody then.
      const cookie = sameSite(({ request }) => request.headers.get("cookie") === "user=ada");
      for (const [headers, status] of [
        [{}, 401],
        [{ Cookie: "user=ada" }, 200],
        [{ Cookie: "user=ada", Origin: "https://evil.example" }, 403],
        [{ Cookie: "user=ada", Origin: "null" }, 403],
        [{ Cookie: "user=ada", "Sec-Fetch-Site": "cross-site" }, 403],
        [{ Cookie: "user=ada", "Sec-Fetch-Site": "same-origin" }, 200],
      ] as [Record<string, string>, number][]) {
        assert.equal(await sent({ auth: cookie }, "/runs/x", { headers }), status, JSON.stringify(headers));
      }

      seen.length = 0;
      const answer = await using({}, "/runs/a%2Fb?x=1", { headers: { Cookie: "c=d", "X-API-Key": "the page's" } });
      assert.deepEqual(seen, [`GET /inner/runs/a%2Fb?x=1 ${KEY} undefined`]);
      assert.equal(answer.headers.get("set-cookie"), null);
      await using({}, "/runs/x?token=pat_1");
      assert.equal(seen[1], "GET /inner/runs/x?token=pat_1 undefined undefined");
    });
  }

  test("same site is the host that was asked, whatever ended TLS before it", async () => {
    const auth = sameSite(() => true);
    const asked = (headers: Record<string, string>): unknown =>
      auth({ request: new Request("http://inside.test/runs", { headers }), endpoint: "runs", extra: undefined });
    assert.equal(asked({ Host: "Shop.example", Origin: "https://shop.example" }), true);
    assert.equal(asked({ Host: "shop.example", Origin: "https://shop.example:444" }) === true, false);
    assert.equal(asked({ Origin: "http://inside.test" }), true);
  });

  test("the document says where it is served", async () => {
    const document = 'openapi: "3.1.0"\nservers:\n  - url: "/inner"\n    description: x\ntags:\n  - name: $&\n';
    const options = { url: "http://service.test/inner", fetch: async () => new Response(document) };
    const servers = async (more: Partial<HandlerOptions>, path: string, mounted?: string): Promise<string> => {
      const handler = createStepflowHandler({ ...options, ...more });
      return (await handler(new Request(`http://host.test${path}`), undefined, mounted)).text();
    };
    const said = (place: string): string =>
      `openapi: "3.1.0"\nservers:\n  - url: ${JSON.stringify(place)}\ntags:\n  - name: $&\n`;
    assert.equal(await servers({}, "/openapi.yaml"), said("/"));
    assert.equal(await servers({}, "/openapi.yaml", BASE), said(BASE));
    assert.equal(await servers({ basePath: BASE }, `${BASE}/openapi.yaml`), said(BASE));
    assert.equal(await servers({ publicPath: '/gw/"$1"' }, "/openapi.yaml", BASE), said('/gw/"$1"'));
  });

  test("a host that closes ends its streams as whole answers, and the service hears of it", async () => {
    for (const early of [false, true]) {
      const closing = new AbortController();
      let left = false;
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => controller.enqueue(new TextEncoder().encode(": hello\n\n")),
        cancel: () => {
          left = true;
        },
      });
      const handler = createStepflowHandler({
        url: "http://service.test",
        closing: closing.signal,
        fetch: async () => new Response(body),
      });
      if (early) closing.abort();
      const answer = await handler(new Request("http://host.test/runs/x/stream"));
      const reader = answer.body?.getReader();
      if (!early) assert.equal((await reader?.read())?.done, false);
      const next = reader?.read();
      closing.abort();
      assert.equal((await next)?.done, true);
      assert.ok(left);
    }
  });

  test("a path that climbs is not forwarded", async () => {
    const fetched: string[] = [];
    const handler = createStepflowHandler({
      url: "http://service.test/inner",
      basePath: BASE,
      fetch: async (url) => {
        fetched.push(String(url));
        return new Response("{}");
      },
    });
    for (const path of ["/runs//x", "/../keys", "/runs/x/steps/..%2f..%2f..%2fkeys", "/runs/x%2f..%5c", "/runs/%"]) {
      const answer = await handler(new Request(`http://host.test${BASE}${path}`));
      assert.equal(answer.status, 404, path);
    }
    assert.deepEqual(fetched, []);
    const wrong = await handler(new Request(`http://host.test${BASE}/trigger/x`));
    assert.deepEqual([wrong.status, wrong.headers.get("allow")], [405, "POST"]);
    assert.equal((await handler(new Request("http://host.test/api/stepflowers/health"))).status, 404);
    assert.throws(() => createStepflowHandler({ url: "http://x", endpoints: "some" as "all" }), /none of/);
  });

  test("a service that is not there is 503: not done for a read, unknown for an act", async () => {
    for (const [name, start] of Object.entries(HOSTS)) {
      const host = await start({ url: "http://127.0.0.1:9", apiKey: KEY });
      const read = await fetch(`${host.url}/runs/x`);
      assert.deepEqual([read.status, ((await read.json()) as { code: string }).code], [503, "UNAVAILABLE"], name);
      const act = await fetch(`${host.url}/notify/x`, {
        method: "POST",
        body: "1",
        headers: { "Content-Type": "application/json" },
      });
      assert.deepEqual([act.status, ((await act.json()) as { code: string }).code], [503, "OUTCOME_UNKNOWN"], name);
      await host.close();
    }
  });
});
