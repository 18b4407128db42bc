// Drives one Chromium for the tests: a command a line on standard input, an answer a line on
// standard output. It holds no test: what is expected stands in Python.
//
// Pages are asked by the protocol's own `Runtime.evaluate`, which a page's
// Content-Security-Policy does not stop. When standard input ends, so does the browser.

import { readFile } from "node:fs/promises";
import readline from "node:readline";
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // Only this machine has a name, so a page that wants anything from elsewhere does not get it.
  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
];
const POLL_MS = 20;
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 90_000);

const pages = [];
let context = null;
let executablePath = "";
let second = null;

const commands = {
  async launch({ executable, profile }) {
    executablePath = executable;
    context = await chromium.launchPersistentContext(profile, {
      executablePath: executable,
      headless: true,
      args: FLAGS,
    });
    return context.browser()?.version() ?? "";
  },

  // `fresh`: as somebody else, who has none of the cookies of the others.
  // `before`: a script that runs in the page before any of its own.
  async open({ url, width = 1280, height = 800, scheme = "light", fresh = false, before = "" }) {
    const where = fresh ? await (await another()).newContext() : context;
    const page = await where.newPage();
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme });
    const seen = { page, requests: [], console: [], violations: [] };
    page.on("request", (request) => seen.requests.push(request));
    page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => seen.console.push(`uncaught: ${error.message}`));
    await page.exposeBinding("__violated", (_, what) => seen.violations.push(what));
    await page.addInitScript(() =>
      addEventListener("securitypolicyviolation", (event) =>
        globalThis.__violated(`${event.violatedDirective} ${event.blockedURI}`),
      ),
    );
    if (before) await page.addInitScript(before);
    seen.cdp = await where.newCDPSession(page);
    const response = await page.goto(url);
    pages.push(seen);
    return { page: pages.length - 1, status: response?.status() ?? 0 };
  },

  async eval({ page, code }) {
    return evaluate(pages[page], code);
  },

  async until({ page, code }) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      // What it looks at may not be on the page yet.
      let threw = "";
      const value = await evaluate(pages[page], code).catch((error) => {
        threw = ` (${error.message})`;
      });
      if (value) return value;
      if (Date.now() > deadline) throw new Error(`never came true: ${code}${threw}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  },

  async requests({ page }) {
    return Promise.all(
      pages[page].requests.map(async (request) => ({
        method: request.method(),
        url: request.url(),
        type: request.resourceType(),
        headers: await sentHeaders(request),
      })),
    );
  },

  async heard({ page }) {
    return { console: pages[page].console, violations: pages[page].violations };
  },

  async press({ page, key }) {
    await pages[page].page.keyboard.press(key);
    return null;
  },

  async type({ page, text }) {
    await pages[page].page.keyboard.type(text);
    return null;
  },

  async run_script({ page, path }) {
    await evaluate(pages[page], `${await readFile(path, "utf8")};null`);
    return null;
  },

  async screenshot({ page, path, whole = false }) {
    await pages[page].page.screenshot({ path, fullPage: whole });
    return path;
  },

  // What the browser itself counts, after a collection: `Nodes` has those, too, that no tree has any more.
  async metrics({ page }) {
    const { cdp } = pages[page];
    await cdp.send("Performance.enable");
    await cdp.send("HeapProfiler.collectGarbage");
    const { metrics } = await cdp.send("Performance.getMetrics");
    return Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
  },

  // As the browser does with a tab that nobody looks at: "frozen" runs no script, "active" goes on.
  async lifecycle({ page, state }) {
    await pages[page].cdp.send("Page.setWebLifecycleState", { state });
    return null;
  },

  async network({ offline }) {
    await context.setOffline(offline);
    return null;
  },

  async shut({ page }) {
    await pages[page].page.close();
    return null;
  },
};

// What the network sent is never told of a worker's own script: after a moment, what is known.
function sentHeaders(request) {
  const known = new Promise((resolve) => setTimeout(resolve, 1000, request.headers()));
  return Promise.race([request.allHeaders(), known]).catch(() => request.headers());
}

async function another() {
  second ??= await chromium.launch({ executablePath, headless: true, args: FLAGS });
  return second;
}

async function evaluate({ cdp }, expression) {
  const { result, exceptionDetails } = await cdp.send("Runtime.evaluate", {
    expression,
    awaitPromise: true,
    returnByValue: true,
  });
  if (exceptionDetails) {
    throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  }
  return result.value ?? null;
}

const lines = readline.createInterface({ input: process.stdin });
for await (const line of lines) {
  const { do: name, ...args } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[name](args)) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await context?.close();
await second?.close();
