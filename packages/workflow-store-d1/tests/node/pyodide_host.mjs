// Runs a Python program under Pyodide as a Worker would be: node pyodide_host.mjs program.py arguments path...
//
// The paths go to sys.path. The program may await at its top, and finds in the module `host`: `env` with the D1 binding
// DB (plain objects over the real one), `miniflare_database()` (Miniflare's proxy of the real one), `arguments`, `versions`.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { loadPyodide, version as pyodide } from "pyodide";
import { startMiniflare } from "./d1.mjs";
import { D1Database } from "./database.mjs";

const [program, programArguments, ...paths] = process.argv.slice(2);
const packageVersion = (name) => createRequire(import.meta.url)(`${name}/package.json`).version;
const miniflare = startMiniflare(["DB"]);
const [python, url] = await Promise.all([loadPyodide({ stdout: console.log }), miniflare.unsafeGetDirectURL()]);

const mounted = paths.map((path, index) => {
  python.mountNodeFS(`/mounted/${index}`, path);
  return `/mounted/${index}`;
});
// What workerd gives to Cloudflare's SDK.
python.registerJsModule("_pyodide_entrypoint_helper", { patchWaitUntil() {}, cloudflareWorkersModule: { waitUntil() {} } });
python.registerJsModule("_cloudflare_compat_flags", { python_request_headers_preserve_commas: true });
python.registerJsModule("host", {
  env: { DB: new D1Database(new URL("/batch/DB", url).href), WORKFLOW_TOKEN: "secret-token" },
  miniflare_database: () => miniflare.getD1Database("DB"),
  arguments: programArguments,
  versions: JSON.stringify({ node: process.version, pyodide, miniflare: packageVersion("miniflare") }),
});

let failed = false;
try {
  python.runPython(`import sys; sys.path[:0] = ${JSON.stringify(mounted)}`);
  await python.runPythonAsync(readFileSync(program, "utf8"), { filename: program });
} catch (error) {
  failed = true; // the message alone: Node would print all of Pyodide's source with it
  console.error(error.message);
}
await miniflare.dispose();
process.exit(failed ? 1 : 0);
