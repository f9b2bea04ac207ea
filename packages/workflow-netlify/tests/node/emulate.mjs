// Bundles the functions of a site with Netlify's bundler, serves them with its emulation, and tells about both.
//   node emulate.mjs SITE < lines of JSON {"name", "headers"}  > one line of JSON after @@ for each
import { createInterface } from "node:readline";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FunctionsHandler } from "@netlify/functions-dev";
import { listFunctions, zipFunctions } from "@netlify/zip-it-and-ship-it";

const site = process.argv[2];
const folder = join(site, "netlify", "functions");
const out = await mkdtemp(join(tmpdir(), "zip-"));
// The functions write to the same output, from threads of their own.
const tell = (value) => process.stdout.write(`@@ ${JSON.stringify(value)}\n`);

await listFunctions(folder);
const zipped = await zipFunctions(folder, out);
tell(zipped.map(({ name, schedule, runtime, size }) => ({ name, schedule: schedule ?? null, runtime, size })));

const handler = new FunctionsHandler({
  accountId: "account",
  config: { get: () => ({ functions: {} }) }, // as a site without netlify.toml
  destPath: join(site, ".netlify", "functions-serve"),
  geolocation: {},
  projectRoot: site,
  settings: {},
  timeouts: { syncFunctions: 30, backgroundFunctions: 900 },
  userFunctionsPath: folder,
});

for await (const line of createInterface({ input: process.stdin })) {
  const { name, headers } = JSON.parse(line);
  const url = `http://localhost/.netlify/functions/${name}`;
  const request = new Request(url, { method: "POST", headers });
  const match = await handler.match(request);
  if (!match) {
    tell({ status: 404, body: "" });
    continue;
  }
  const response = await match.handle(request);
  tell({ status: response.status, body: await response.text() });
}
process.exit(0);
