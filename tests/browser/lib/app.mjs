import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const { build } = createRequire(new URL("../../../clients/js/package.json", import.meta.url))("esbuild");

// App is somebody's application, on an origin of its own: any address gives the page whose script this is, with the client built into one file.
export class App {
  static async start(script = "client-page.mjs") {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL(script, import.meta.url))],
      nodePaths: [fileURLToPath(new URL("../../../clients/js/node_modules", import.meta.url))], define: { "process.env.NODE_ENV": '"development"' },
      bundle: true, format: "esm", minify: true, mangleProps: /[^_]_$/, target: "es2022", write: false,
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
