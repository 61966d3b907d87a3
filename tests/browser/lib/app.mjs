import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const { build } = createRequire(new URL("../../../clients/js/package.json", import.meta.url))("esbuild");

const client = (path) => fileURLToPath(new URL(`../../../clients/js/${path}`, import.meta.url));

// App is somebody's application, on an origin of its own: any address gives the page whose script this is, with the client built into one file.
export class App {
  // start takes a script of this folder, or its text.
  static async start(script = "client-page.mjs", text) {
    const resolveDir = fileURLToPath(new URL(".", import.meta.url));
    const { outputFiles } = await build({
      ...(text ? { stdin: { contents: text, sourcefile: script, resolveDir, loader: "jsx" } } : { entryPoints: [join(resolveDir, script)] }),
      alias: { rollcall: client("src/index.ts"), "rollcall/react": client("src/react.ts") }, nodePaths: [client("node_modules")],
      bundle: true, format: "esm", minify: true, mangleProps: /[^_]_$/, target: "es2022", write: false,
      jsx: "automatic", define: { "process.env.NODE_ENV": '"development"' },
    });
    const app = new App();
    app.listener = createServer(({ url }, answer) => {
      const isScript = url === "/page.js";
      answer.setHeader("Content-Type", isScript ? "text/javascript" : "text/html; charset=utf-8");
      answer.end(isScript ? outputFiles[0].text : '<!doctype html><title>app</title><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>');
    }).listen(0, "127.0.0.1");
    await once(app.listener, "listening");
    app.url = `http://127.0.0.1:${app.listener.address().port}`;
    return app;
  }

  close() {
    this.listener.close();
    this.listener.closeAllConnections();
  }
}
