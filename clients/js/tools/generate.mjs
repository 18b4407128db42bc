// Writes `src/openapi.ts` from the repository's OpenAPI document. Its first line names the document
// it was made from, so that a stale one is found without Node.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import openapiTS, { astToString } from "openapi-typescript";

const source = new URL("../../../openapi.yaml", import.meta.url);
const target = process.argv[2] ?? fileURLToPath(new URL("../src/openapi.ts", import.meta.url));

const digest = createHash("sha256").update(readFileSync(source)).digest("hex");
const types = astToString(await openapiTS(source));
writeFileSync(target, `// Made by \`make openapi\` from openapi.yaml, sha256 ${digest}.\n\n${types}`);
