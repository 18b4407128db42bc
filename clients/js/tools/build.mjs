// Builds `dist/`, which is published, `build/tests/`, which node's test runner runs, and `build/hosts/`.

import { execFileSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
rmSync("dist", { recursive: true, force: true });
rmSync("build", { recursive: true, force: true });

// The types are checked here, too: what does not compile is not built.
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "."], { stdio: "inherit" });

// One file, for pages that load it with a script tag.
await build({
  entryPoints: ["src/element.ts"],
  outfile: "dist/stepflow-run.js",
  bundle: true,
  alias: { "eventsource-parser": "./src/lines.ts" },
  minify: true,
  format: "esm",
  target: "es2022",
});

await build({
  entryPoints: readdirSync("tests")
    .filter((name) => /\.tsx?$/.test(name))
    .map((name) => `tests/${name}`),
  outdir: "build/tests",
  format: "esm",
  target: "es2022",
  sourcemap: "inline",
  jsx: "automatic",
});

// The hosts of the suite in tests/hosts at the root: processes of their own.
await build({
  entryPoints: readdirSync("tests/hosts")
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `tests/hosts/${name}`),
  outdir: "build/hosts",
  format: "esm",
  target: "es2022",
});

// The pages that a real browser loads.
await build({
  entryPoints: ["tests/pages/react.tsx", "tests/pages/follow.ts"],
  outdir: "build/pages",
  bundle: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"development"' },
});
