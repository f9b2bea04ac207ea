// A D1 binding for Pyodide: plain objects, as in workerd, whose batches the real binding carries out in workerd.
//
// Miniflare's own proxy of the binding asks workerd, and blocks, for each look at an attribute of a statement.
export class D1Database {
  constructor(url) {
    this.url = url;
  }

  prepare(sql) {
    return new D1PreparedStatement(sql, []);
  }

  async batch(statements) {
    if (!Array.isArray(statements)) throw new TypeError("batch() takes an array");
    const batch = statements.map(({ sql, params }) => ({ sql, params }));
    const response = await fetch(this.url, { method: "POST", body: JSON.stringify({ batch }) });
    if (!response.ok) throw new Error(await response.text());
    return response.json();
  }
}

class D1PreparedStatement {
  constructor(sql, params) {
    this.sql = sql;
    this.params = params;
  }

  bind(...values) {
    for (const value of values) {
      if (value !== null && !["string", "number"].includes(typeof value))
        throw new Error(`D1_TYPE_ERROR: Type '${typeof value}' not supported for value '${value}'`);
    }
    return new D1PreparedStatement(this.sql, values);
  }
}
