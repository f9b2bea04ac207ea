// A Worker before D1 databases. It answers as Cloudflare's REST API does (POST /client/v4/accounts/{id}/d1/database/{id}/raw),
// and carries batches for database.mjs (POST /batch/{id}).
const ROUTE = /^\/client\/v4\/accounts\/[^/]+\/d1\/database\/([^/]+)\/raw$/;

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith("/batch/")) return carry(request, env[pathname.slice("/batch/".length)]);
    const database = env[ROUTE.exec(pathname)?.[1]];
    if (request.headers.get("Authorization") !== "Bearer token") return refusal(401, 10000, "Authentication error");
    if (!database) return refusal(404, 7404, "The database could not be found");
    try {
      const results = await run(request, database);
      return Response.json({ result: results.map(raw), success: true, errors: [], messages: [] });
    } catch (error) {
      return refusal(400, 7500, error.message.replace("D1_ERROR: ", ""));
    }
  },
};

async function run(request, database) {
  const { batch } = await request.json();
  return database.batch(batch.map(({ sql, params }) => database.prepare(sql).bind(...params)));
}

function raw({ results, success, meta }) {
  const rows = results.map((row) => Object.values(row));
  return { results: { columns: Object.keys(results[0] ?? {}), rows }, success, meta };
}

function refusal(status, code, message) {
  return Response.json({ result: [], success: false, errors: [{ code, message }], messages: [] }, { status });
}

async function carry(request, database) {
  try {
    return Response.json(await run(request, database));
  } catch (error) {
    return new Response(error.message, { status: 400 });
  }
}
