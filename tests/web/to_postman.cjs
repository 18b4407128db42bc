// Postman's own converter: node_modules and the document in, the collection on standard output.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const [modules, document] = process.argv.slice(2);
const converter = require(join(modules, "openapi-to-postmanv2"));
const data = readFileSync(document, "utf8");
converter.convertV2({ type: "string", data }, { folderStrategy: "Tags", enableOptionalParameters: false }, (error, made) => {
  if (error || !made.result) throw new Error(error ?? made.reason);
  process.stdout.write(JSON.stringify(made.output[0].data));
});
